using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Memory;

namespace DmaBufIo.Tests.Rings;

/// <summary>A buffer whose memory lies in several regions, or in none that the exporter names.</summary>
internal sealed class PieceExporter : DmaBufExporter, IDisposable
{
    internal PieceExporter(params int[] lengths)
    {
        Regions = [.. lengths.Select(static l => MemoryRegion.Allocate("piece", l))];
        Buffer = new DmaBuf("pieces", lengths.Sum(), this);
    }

    internal MemoryRegion[] Regions { get; }

    internal DmaBuf Buffer { get; }

    /// <summary>Memory on a device, of which the CPU sees nothing.</summary>
    internal bool Hidden { get; set; }

    /// <summary>Names less than the buffer's size.</summary>
    internal bool Short { get; set; }

    private MemoryRange[] Ranges => [.. Regions.Select(static r => new MemoryRange(r, 0, r.Length))];

    /// <summary>The buffer's bytes, one region after the other.</summary>
    internal byte[] Contents => [.. Regions.SelectMany(static r => r.Span(0, (int)r.Length).ToArray())];

    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held) => MapMemory(attachment, direction, Ranges);

    public override void Unmap(SgTable table, in HeldReservation held) => UnmapMemory(table);

    public override BufferBacking Describe() => Hidden
        ? new(BackingKind.DeviceMemory, [], CanMove: false)
        : new(BackingKind.HostMemory, Short ? Ranges[1..] : Ranges, CanMove: false);

    public override void Release()
    {
        foreach (MemoryRegion region in Regions)
            region.Dispose();
    }

    public void Dispose()
    {
        Assert.Equal(Errors.Errno.Ok, Stage.WaitFor(() => Buffer.References == 1));
        Buffer.Put();
    }
}
