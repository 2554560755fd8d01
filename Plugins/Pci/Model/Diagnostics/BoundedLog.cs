namespace DmaBufIo.Pci.Model.Diagnostics;

/// <summary>Keeps the first entries and counts them all: the first breach of a rule tells more than the last of thousands.</summary>
internal sealed class BoundedLog<T>(int capacity)
{
    private readonly Lock _lock = new();
    private readonly List<T> _entries = [];
    private long _total;

    /// <summary>Entries ever added.</summary>
    internal long Total => Volatile.Read(ref _total);

    /// <summary>A copy of the entries kept; any thread.</summary>
    internal IReadOnlyList<T> Snapshot()
    {
        lock (_lock)
            return _entries.ToArray();
    }

    /// <summary>Adds an entry; any thread.</summary>
    internal void Add(T entry)
    {
        lock (_lock)
        {
            Volatile.Write(ref _total, _total + 1);
            if (_entries.Count < capacity)
                _entries.Add(entry);
        }
    }
}
