using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Memory;
using DmaBufIo.Native;

namespace DmaBufIo.Tests.Memory;

/// <summary>A buffer with a descriptor that stands for it, over one sealed memory file, mapped in one range or several.</summary>
internal sealed class ExportedBuffer : DmaBufExporter, IDisposable
{
    private readonly int _ranges;

    internal ExportedBuffer(long size, int ranges = 1)
    {
        _ranges = ranges;
        MemfdHandle file = MemfdHandle.Create("exported", size);
        file.SealAgainstShrinking();
        MemfdHandle descriptor = MemfdHandle.Duplicate(file);
        Region = MemoryRegion.FromFile("exported", file, size);
        Buffer = new DmaBuf("exported", size, this, descriptor);
    }

    internal MemoryRegion Region { get; }

    internal DmaBuf Buffer { get; }

    internal bool Released { get; private set; }

    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held) =>
        MapMemory(attachment, direction, [.. Enumerable.Range(0, _ranges).Select(Range)]);

    public override void Unmap(SgTable table, in HeldReservation held) => UnmapMemory(table);

    public override BufferBacking Describe() => new(BackingKind.HostMemory, [new MemoryRange(Region, 0, Region.Length)], CanMove: false);

    public override void Release()
    {
        Released = true;
        Region.Dispose();
    }

    public void Dispose() => Buffer.Put();

    private MemoryRange Range(int index) => new(Region, Region.Length / _ranges * index, Region.Length / _ranges);
}
