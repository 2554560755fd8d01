using DmaBufIo.Dma;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// A device's translation cache: 4-way set-associative, least recently used entry replaced, pages of both sizes in one array.
/// </summary>
/// <remarks>
/// Beside the leaf entry, a line caches what the memory bus and the shadow record know of it: region, offset and mapping. It may
/// outlive the mapping: that is what an invalidation is for. Not thread-safe: used under the domain's gate.
/// </remarks>
internal sealed class Iotlb
{
    public const int Ways = 4;

    private const ulong ValidBit = 1;
    private const ulong LargeBit = 2;

    private readonly Line[] _lines;
    private readonly ulong _setMask;
    private ulong _now;
    private int _small;
    private int _large;

    public Iotlb(int entries)
    {
        _lines = new Line[entries];
        _setMask = (ulong)(entries / Ways) - 1;
    }

    /// <summary>One cached translation.</summary>
    public struct Line
    {
        /// <summary>Address of the page with the flags of the tag in its low bits; 0 when the line is empty.</summary>
        public ulong Tag;
        public ulong LastUse;
        public long RegionOffset;
        public MemoryRegion? Region;
        public MappingRecord? Record;
        public DmaDirection Permission;

        public readonly int PageShift => (Tag & LargeBit) != 0 ? PageTable.LargeShift : PageTable.PageShift;

        public readonly ulong Page => Tag & ~(ValidBit | LargeBit);
    }

    public ref Line this[int index] => ref _lines[index];

    /// <summary>Index of the line that holds an address, or -1.</summary>
    public int Find(ulong address)
    {
        int found = -1;
        if (_small != 0)
            found = FindTag(TagOf(address, PageTable.PageShift), PageTable.PageShift);
        if (found < 0 && _large != 0)
            found = FindTag(TagOf(address, PageTable.LargeShift), PageTable.LargeShift);
        if (found >= 0)
            _lines[found].LastUse = ++_now;
        return found;
    }

    /// <summary>Replaces the least recently used line of the address's set; the caller fills in what it maps to.</summary>
    public int Insert(ulong address, int pageShift)
    {
        int first = FirstOf(address, pageShift);
        int victim = first;
        for (int i = first; i < first + Ways; i++)
        {
            if (_lines[i].LastUse < _lines[victim].LastUse)
                victim = i;
        }

        Drop(ref _lines[victim]);
        _lines[victim].Tag = TagOf(address, pageShift);
        _lines[victim].LastUse = ++_now;
        CountOf(pageShift)++;
        return victim;
    }

    /// <summary>Drops every line whose page touches the range. The end is exclusive.</summary>
    public void Invalidate(ulong start, ulong end)
    {
        foreach (ref Line line in _lines.AsSpan())
        {
            if (line.Tag != 0 && line.Page < end && line.Page + (1UL << line.PageShift) > start)
                Drop(ref line);
        }
    }

    /// <summary>Drops every line.</summary>
    public void Flush()
    {
        Array.Clear(_lines);
        _small = 0;
        _large = 0;
    }

    private static ulong TagOf(ulong address, int pageShift) =>
        (address >> pageShift << pageShift) | (pageShift == PageTable.LargeShift ? ValidBit | LargeBit : ValidBit);

    private int FirstOf(ulong address, int pageShift) => (int)((address >> pageShift) & _setMask) * Ways;

    private int FindTag(ulong tag, int pageShift)
    {
        int first = FirstOf(tag, pageShift);
        for (int i = first; i < first + Ways; i++)
        {
            if (_lines[i].Tag == tag)
                return i;
        }

        return -1;
    }

    private void Drop(ref Line line)
    {
        if (line.Tag != 0)
            CountOf(line.PageShift)--;
        line = default;
    }

    private ref int CountOf(int pageShift)
    {
        if (pageShift == PageTable.LargeShift)
            return ref _large;
        return ref _small;
    }
}
