using System.Runtime.InteropServices;
using DmaBufIo.Dma;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// Every mapping that a device was ever given: the live ones, and a long but bounded history of ended ones. It does not
/// take part in translation; it is how a stale access is noticed in modes that serve it, and named in all of them.
/// </summary>
/// <remarks>
/// Not thread-safe: used under the domain's gate. The records of ended mappings are used again once nothing of the domain names
/// them, the history keeps values. The <see cref="DeviceRange"/> is never used again: it is the caller's proof of the mapping, and a pooled
/// one would turn an unmap too much, or an address read after the unmap, into an act on somebody else's mapping instead of an error.
/// </remarks>
internal sealed class ShadowRecord
{
    private readonly int _historyLength;
    private readonly Dictionary<DeviceRange, MappingRecord> _byRange = new(ReferenceEqualityComparer.Instance);
    private readonly List<EndedMapping> _ended = [];
    private MappingRecord? _unused;
    private int _oldest;

    public ShadowRecord(int historyLength) => _historyLength = historyLength;

    public LiveMappings Live { get; } = new();

    public void Begin(DeviceRange range)
    {
        MappingRecord record = _unused ?? new MappingRecord();
        _unused = record.Left;
        record.Left = null;
        record.Begin(range.Address, range.Memory, range.Direction, range.Purpose, range.Generation);
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

    /// <summary>Takes back the record of an ended mapping. Nothing names it any more: no IOTLB, no queue, no access under way.</summary>
    public void Recycle(MappingRecord record)
    {
        record.Region = null;
        record.Left = _unused;
        _unused = record;
    }

    /// <summary>The mapping covering an address that ended last, or null. Linear in the history: only bad accesses ask.</summary>
    public MappingRecord? FindEnded(ulong address)
    {
        ReadOnlySpan<EndedMapping> ended = CollectionsMarshal.AsSpan(_ended);
        for (int back = 1; back <= ended.Length; back++)
        {
            int index = _oldest - back;
            ref readonly EndedMapping entry = ref ended[index < 0 ? index + ended.Length : index];
            if (address >= entry.Start && address < entry.End)
                return MappingRecord.From(entry);
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
            _ended.Add(EndedMapping.Of(record));
        }
        else
        {
            _ended[_oldest] = EndedMapping.Of(record);
            _oldest = (_oldest + 1) % _historyLength;
        }
    }
}
