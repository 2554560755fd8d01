using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Memory;

namespace DmaBufIo.Cli.Benching.Goals;

/// <summary>
/// A buffer of a given number of extents: one piece of memory, cut up and listed backwards, so that no two neighbours join.
/// </summary>
internal sealed class ScatteredExporter : DmaBufExporter
{
    private readonly MemoryRegion _region;
    private readonly MemoryRange[] _ranges;

    private ScatteredExporter(MemoryRegion region, int extents)
    {
        _region = region;
        long length = region.Length / extents;
        _ranges = [.. Enumerable.Range(0, extents).Select(i => new MemoryRange(region, (extents - 1 - i) * length, length))];
    }

    /// <summary>Makes a buffer.</summary>
    /// <param name="size">Bytes.</param>
    /// <param name="extents">How many pieces; each is whole pages.</param>
    internal static DmaBuf Create(long size, int extents) =>
        new($"{extents} extents", size, new ScatteredExporter(MemoryRegion.Allocate("scattered", size), extents));

    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held) =>
        MapMemory(attachment, direction, _ranges);

    public override void Unmap(SgTable table, in HeldReservation held) => UnmapMemory(table);

    public override BufferBacking Describe() => new(BackingKind.HostMemory, _ranges, CanMove: true);

    public override void Release() => _region.Dispose();
}
