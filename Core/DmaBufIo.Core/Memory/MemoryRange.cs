namespace DmaBufIo.Memory;

/// <summary>A byte range of a memory region.</summary>
/// <param name="Region">The region.</param>
/// <param name="Offset">First byte within the region.</param>
/// <param name="Length">Bytes.</param>
public readonly record struct MemoryRange(MemoryRegion Region, long Offset, long Length);
