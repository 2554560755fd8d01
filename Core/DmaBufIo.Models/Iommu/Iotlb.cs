using System.Runtime.CompilerServices;
using DmaBufIo.Dma;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// A device's translation cache: 4-way set-associative, least recently used entry replaced, pages of all three sizes in one array.
/// </summary>
/// <remarks>
/// Beside the leaf entry, a line caches what the memory bus and the shadow record know of it: region, offset and mapping. It may
/// outlive the mapping: that is what an invalidation is for. Not thread-safe: used under the domain's gate.
/// </remarks>
internal sealed class Iotlb
{
    public const int Ways = 4;

    private const ulong ValidBit = 1;
    private const int SizeBit = 1;
    private const ulong TagBits = 7;

    private readonly Line[] _lines;
    private readonly ulong _setMask;
    private ulong _now;
    private LinesBySize _lineCounts;

    public Iotlb(int entries)
    {
        _lines = new Line[entries];
        _setMask = (ulong)(entries / Ways) - 1;
    }

    /// <summary>One cached translation.</summary>
    public struct Line
    {
        /// <summary>Address of the page with valid bit and size in its low bits; 0 when the line is empty.</summary>
        public ulong Tag;
        public ulong LastUse;
        public long RegionOffset;
        public MemoryRegion? Region;
        public MappingRecord? Record;
        public DmaDirection Permission;

        public readonly int Level => (int)((Tag & TagBits) >> SizeBit);

        public readonly int PageShift => PageTable.ShiftOf(Level);

        public readonly ulong Page => Tag & ~TagBits;
    }

    public ref Line this[int index] => ref _lines[index];

    /// <summary>Index of the line that holds an address, or -1.</summary>
    public int Find(ulong address)
    {
        for (int level = 1; level <= PageTable.LargestLeafLevel; level++)
        {
            if (_lineCounts[level] == 0)
                continue;
            int found = FindTag(TagOf(address, level), FirstOf(address, level));
            if (found < 0)
                continue;
            _lines[found].LastUse = ++_now;
            return found;
        }

        return -1;
    }

    /// <summary>Replaces the least recently used line of the address's set; the caller fills in what it maps to.</summary>
    public int Insert(ulong address, int pageShift)
    {
        int level = PageTable.LevelOf(pageShift);
        int first = FirstOf(address, level);
        int victim = first;
        for (int i = first; i < first + Ways; i++)
        {
            if (_lines[i].LastUse < _lines[victim].LastUse)
                victim = i;
        }

        Drop(ref _lines[victim]);
        _lines[victim].Tag = TagOf(address, level);
        _lines[victim].LastUse = ++_now;
        _lineCounts[level]++;
        return victim;
    }

    /// <summary>Drops every line whose page touches the range. The end is exclusive.</summary>
    public void Invalidate(ulong start, ulong end)
    {
        for (int level = 1; level <= PageTable.LargestLeafLevel; level++)
        {
            if (_lineCounts[level] == 0)
                continue;
            int shift = PageTable.ShiftOf(level);
            ulong first = start >> shift;
            ulong count = ((end - 1) >> shift) - first + 1;

            // A range of as many pages as there are sets touches them all.
            if (count > _setMask)
                DropAll(start, end, level);
            else
                DropEach(first, count, level);
        }
    }

    /// <summary>Drops every line.</summary>
    public void Flush()
    {
        Array.Clear(_lines);
        _lineCounts = default;
    }

    private static ulong TagOf(ulong address, int level) =>
        (address >> PageTable.ShiftOf(level) << PageTable.ShiftOf(level)) | ((ulong)level << SizeBit) | ValidBit;

    private int FirstOf(ulong address, int level) => (int)((address >> PageTable.ShiftOf(level)) & _setMask) * Ways;

    private void DropEach(ulong firstPage, ulong count, int level)
    {
        for (ulong page = firstPage; page < firstPage + count; page++)
        {
            ulong address = page << PageTable.ShiftOf(level);
            int found = FindTag(TagOf(address, level), FirstOf(address, level));
            if (found >= 0)
                Drop(ref _lines[found]);
        }
    }

    private void DropAll(ulong start, ulong end, int level)
    {
        foreach (ref Line line in _lines.AsSpan())
        {
            if (line.Tag != 0 && line.Level == level && line.Page < end && line.Page + (1UL << line.PageShift) > start)
                Drop(ref line);
        }
    }

    private int FindTag(ulong tag, int first)
    {
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
            _lineCounts[line.Level]--;
        line = default;
    }

    /// <summary>How many lines there are by level, so that a size that nobody uses costs no lookup. Index 0 is not used.</summary>
    [InlineArray(PageTable.LargestLeafLevel + 1)]
    private struct LinesBySize
    {
        private int _first;
    }
}
