using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>What a device address leads to: a contiguous run of memory, or a fault. Valid while the domain's gate is held.</summary>
internal struct Translation
{
    /// <summary>What is wrong with the access; decides whether it is served.</summary>
    public AccessProblem Problem;

    /// <summary>The mapping concerned, live or ended; null when none is known. Not to be kept: it is used again.</summary>
    public MappingRecord? Record;

    /// <summary>The memory, when the access is served.</summary>
    public MemoryRegion? Region;

    /// <summary>First byte within the region.</summary>
    public long Offset;

    /// <summary>Bytes of the run.</summary>
    public int Length;

    public static Translation Refused(AccessProblem problem, MappingRecord? record) => new() { Problem = problem, Record = record };
}
