using DmaBufIo.Dma;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>What the shadow record knows of one mapping, live or ended. A node of <see cref="LiveMappings"/> while it is live.</summary>
/// <remarks>Written under the domain's gate.</remarks>
internal sealed class MappingRecord
{
    public MappingRecord(ulong start, in MemoryRange memory, DmaDirection direction, string purpose, long generation)
    {
        Start = start;
        End = start + (ulong)memory.Length;
        Region = memory.Region;
        RegionOffset = memory.Offset;
        RegionName = memory.Region.Name;
        Direction = direction;
        Purpose = purpose;
        Generation = generation;
    }

    public ulong Start { get; }

    /// <summary>First address after the mapping.</summary>
    public ulong End { get; }

    public DmaDirection Direction { get; }

    public string Purpose { get; }

    public long Generation { get; }

    public string RegionName { get; }

    public long RegionOffset { get; }

    /// <summary>
    /// The memory, as long as an access can be served through this mapping; null afterwards, so that the history keeps no memory
    /// allocated.
    /// </summary>
    public MemoryRegion? Region { get; set; }

    /// <summary>True once it was unmapped, or its device removed.</summary>
    public bool Ended { get; set; }

    // The links of the tree of live mappings.
    public MappingRecord? Left { get; set; }

    public MappingRecord? Right { get; set; }

    public uint Priority { get; set; }

    public long Order { get; set; }

    public ulong MaxEnd { get; set; }

    public bool Covers(ulong address) => address >= Start && address < End;

    public bool Permits(DmaDirection access) => (Direction & access) == access;

    public override string ToString() => $"\"{Purpose}\" of generation {Generation}, region {RegionName}, 0x{Start:x}+{End - Start}";
}
