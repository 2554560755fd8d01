using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Memory;

namespace DmaBufIo.Importers.StackedRaid.Tests.Harness;

/// <summary>An exporter that moves its buffer while it maps it for one device, as one does whose memory that device does not reach.</summary>
internal sealed class FickleExporter : DmaBufExporter
{
    private readonly List<MemoryRegion> _left = [];

    internal FickleExporter(long size)
    {
        Region = MemoryRegion.Allocate("fickle", size);
        Buffer = new DmaBuf("fickle", size, this);
    }

    internal DmaBuf Buffer { get; }

    internal MemoryRegion Region { get; private set; }

    /// <summary>For whom it moves, and how often.</summary>
    internal DmaDevice? MovesFor { get; set; }

    internal int Moves { get; set; } = 1;

    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held)
    {
        if (ReferenceEquals(attachment.Device, MovesFor) && Moves > 0)
        {
            Moves--;
            Buffer.InvalidateMappings(held);
            MemoryRegion next = MemoryRegion.Allocate("fickle", Region.Length);
            next.CopyFrom(Region);
            Region.MarkDead();
            _left.Add(Region);
            Region = next;
        }

        return MapMemory(attachment, direction, [new MemoryRange(Region, 0, Region.Length)]);
    }

    public override void Unmap(SgTable table, in HeldReservation held) => UnmapMemory(table);

    public override BufferBacking Describe() => new(BackingKind.HostMemory, [new MemoryRange(Region, 0, Region.Length)], CanMove: true);

    public override void Release()
    {
        Region.Dispose();
        foreach (MemoryRegion region in _left)
            region.Dispose();
    }
}
