using System.Globalization;

namespace DmaBufIo.Hosting.Topology;

/// <summary>Gives devices names that are unique among the open ones: a prefix and the lowest free number.</summary>
internal sealed class DeviceNames
{
    private readonly Lock _lock = new();
    private readonly HashSet<string> _taken = [];

    internal Name Take(string prefix)
    {
        lock (_lock)
        {
            for (int number = 0; ; number++)
            {
                string text = prefix + number.ToString(CultureInfo.InvariantCulture);
                if (_taken.Add(text))
                    return new Name(this, text);
            }
        }
    }

    /// <summary>A name in use; disposing frees it.</summary>
    internal sealed class Name(DeviceNames names, string text) : IDisposable
    {
        internal string Text => text;

        public void Dispose()
        {
            lock (names._lock)
                names._taken.Remove(text);
        }
    }
}
