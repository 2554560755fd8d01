using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Memory;
using DmaBufIo.Plugins;

namespace DmaBufIo.Fixtures.Good;

public sealed class PlainExporterFactory(Journal journal) : IExporterFactory, IMovableBuffers
{
    public string Word => "plain";

    public bool CanMove => true;

    public DmaBuf Create(DeviceExpression expression, string name, long size)
    {
        expression.AllowOnly("colour");
        journal.Write($"export {name}");
        return new DmaBuf(name, size, new PlainExporter(name, size, journal));
    }

    public InvalidationReport Move(DmaBuf buffer, CancellationToken cancellationToken)
    {
        using ReservationGuard guard = buffer.Reservation.Lock(null, cancellationToken);
        journal.Write($"move {buffer.Name}");
        return buffer.InvalidateMappings(guard.Held);
    }
}

public sealed class PlainExporter(string name, long size, Journal journal) : DmaBufExporter
{
    private readonly MemoryRegion _memory = MemoryRegion.Allocate(name, size);

    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held) =>
        MapMemory(attachment, direction, [new MemoryRange(_memory, 0, _memory.Length)]);

    public override void Unmap(SgTable table, in HeldReservation held) => UnmapMemory(table);

    public override BufferBacking Describe() => new(BackingKind.HostMemory, [new MemoryRange(_memory, 0, _memory.Length)], CanMove: true);

    public override void Release()
    {
        journal.Write($"free {_memory.Name}");
        _memory.Dispose();
    }
}
