using System.Runtime.InteropServices;
using DmaBufIo.Dma;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// Every mapping that a device was ever given: the live ones, and a long but bounded history of ended ones. It does not
/// take part in translation; it is how a stale access is noticed in modes that serve it, and named in all of them.
/// </summary>
/// <remarks>Not thread-safe: used under the domain's gate.</remarks>
internal sealed class ShadowRecord
{
    private readonly int _historyLength;
    private readonly Dictionary<DeviceRange, MappingRecord> _byRange = new(ReferenceEqualityComparer.Instance);
    private readonly List<(ulong Start, ulong End, MappingRecord Record)> _ended = [];
    private int _oldest;

    public ShadowRecord(int historyLength) => _historyLength = historyLength;

    public LiveMappings Live { get; } = new();

    public void Begin(DeviceRange range, MappingRecord record)
    {
        Live.Add(record);
        _byRange.Add(range, record);
    }

    /// <summary>Moves a mapping from the live ones to the history; null when the range is not a live mapping.</summary>
    public MappingRecord? End(DeviceRange range)
    {
        if (!_byRange.Remove(range, out MappingRecord? record))
            return null;
        Archive(record);
        return record;
    }

    /// <summary>The mapping covering an address that ended last, or null. Linear in the history: only bad accesses ask.</summary>
    public MappingRecord? FindEnded(ulong address)
    {
        ReadOnlySpan<(ulong Start, ulong End, MappingRecord Record)> ended = CollectionsMarshal.AsSpan(_ended);
        for (int back = 1; back <= ended.Length; back++)
        {
            int index = _oldest - back;
            ref readonly (ulong Start, ulong End, MappingRecord Record) entry = ref ended[index < 0 ? index + ended.Length : index];
            if (address >= entry.Start && address < entry.End)
                return entry.Record;
        }

        return null;
    }

    /// <summary>Ends all live mappings: their device is gone.</summary>
    /// <returns>The mappings that were still live.</returns>
    public List<MappingRecord> Abandon()
    {
        List<MappingRecord> left = Live.ToList();
        foreach (MappingRecord record in left)
        {
            Archive(record);
            record.Region = null;
        }

        _byRange.Clear();
        return left;
    }

    private void Archive(MappingRecord record)
    {
        Live.Remove(record);
        record.Ended = true;
        if (_ended.Count < _historyLength)
        {
            _ended.Add((record.Start, record.End, record));
        }
        else
        {
            _ended[_oldest] = (record.Start, record.End, record);
            _oldest = (_oldest + 1) % _historyLength;
        }
    }
}
