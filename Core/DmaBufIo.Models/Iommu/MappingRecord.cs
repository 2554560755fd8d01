using DmaBufIo.Dma;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>What the shadow record knows of one mapping, live or ended. A node of <see cref="LiveMappings"/> while it is live.</summary>
/// <remarks>
/// Written under the domain's gate. Records are used again (<see cref="ShadowRecord.Recycle"/>): hold on to the
/// <see cref="Order"/> of a mapping to recognise it later, not to its record.
/// </remarks>
internal sealed class MappingRecord
{
    public ulong Start { get; private set; }

    /// <summary>First address after the mapping.</summary>
    public ulong End { get; private set; }

    public DmaDirection Direction { get; private set; }

    public string Purpose { get; private set; } = "";

    public long Generation { get; private set; }

    public string RegionName { get; private set; } = "";

    public long RegionOffset { get; private set; }

    /// <summary>
    /// The memory, as long as an access can be served through this mapping; null afterwards, so that no memory is kept allocated.
    /// </summary>
    public MemoryRegion? Region { get; set; }

    /// <summary>True once it was unmapped, or its device removed.</summary>
    public bool Ended { get; set; }

    /// <summary>The number of the mapping among all that its device was given, from 1.</summary>
    public long Order { get; set; }

    // The links of the tree of live mappings. The left one also links the records that wait to be used again.
    public MappingRecord? Left { get; set; }

    public MappingRecord? Right { get; set; }

    public uint Priority { get; set; }

    public ulong MaxEnd { get; set; }

    public static MappingRecord From(in EndedMapping ended) => new()
    {
        Start = ended.Start,
        End = ended.End,
        RegionName = ended.RegionName,
        Direction = ended.Direction,
        Purpose = ended.Purpose,
        Generation = ended.Generation,
        Order = ended.Order,
        Ended = true,
    };

    public void Begin(ulong start, in MemoryRange memory, DmaDirection direction, string purpose, long generation)
    {
        Start = start;
        End = start + (ulong)memory.Length;
        Region = memory.Region;
        RegionOffset = memory.Offset;
        RegionName = memory.Region.Name;
        Direction = direction;
        Purpose = purpose;
        Generation = generation;
        Ended = false;
    }

    public bool Covers(ulong address) => address >= Start && address < End;

    public bool Permits(DmaDirection access) => (Direction & access) == access;

    public override string ToString() => $"\"{Purpose}\" of generation {Generation}, region {RegionName}, 0x{Start:x}+{End - Start}";
}

/// <summary>What the history keeps of a mapping that ended.</summary>
internal readonly record struct EndedMapping(
    ulong Start, ulong End, long Order, long Generation, string Purpose, string RegionName, DmaDirection Direction)
{
    public static EndedMapping Of(MappingRecord record) => new(
        record.Start, record.End, record.Order, record.Generation, record.Purpose, record.RegionName, record.Direction);
}
