using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Memory;

namespace DmaBufIo.Docs.Tests.Examples;

/// <summary>The exporter of the page for driver authors: a buffer that moves.</summary>
internal sealed class ScratchExporter : DmaBufExporter
{
    private readonly Dictionary<SgTable, MemoryRegion> _tables = [];
    private MemoryRegion _memory;

    internal ScratchExporter(string name, long size)
    {
        _memory = MemoryRegion.Allocate(name, size);
        Buffer = new DmaBuf(name, size, this);
    }

    internal DmaBuf Buffer { get; }

    public override BufferBacking Describe() => new(BackingKind.HostMemory, [new MemoryRange(_memory, 0, _memory.Length)], CanMove: true);

    public override void Release() => _memory.Dispose();

    // <example>
    public InvalidationReport Move()
    {
        // Memory first: everybody who wants the buffer waits while the lock is held.
        MemoryRegion next = MemoryRegion.Allocate(Buffer.Name, Buffer.Size);
        using ReservationGuard guard = Buffer.Reservation.Lock();
        InvalidationReport report = Buffer.InvalidateMappings(guard.Held); // F6
        Buffer.Reservation.Wait(FenceUsage.Bookkeep); // the fenced design leaves a fence per map, the draining one none

        // F7: from here on no request uses the old place, and not before.
        MemoryRegion old = _memory;
        next.CopyFrom(old);
        _memory = next;
        old.MarkDead(); // a late access is recorded
        FreeWhenUnmapped(old);
        return report;
    }

    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held)
    {
        SgTable table = MapMemory(attachment, direction, [new MemoryRange(_memory, 0, Buffer.Size)]);
        _tables.Add(table, _memory);
        return table;
    }

    // Importers unmap later, on workers: an old place outlives the move until then.
    public override void Unmap(SgTable table, in HeldReservation held)
    {
        UnmapMemory(table);
        _tables.Remove(table, out MemoryRegion? place);
        FreeWhenUnmapped(place!);
    }
    // </example>

    private void FreeWhenUnmapped(MemoryRegion place)
    {
        if (place.IsDead && !_tables.ContainsValue(place))
            place.Dispose();
    }
}
