using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace MovingRam;

/// <summary>The owner of one buffer's memory. It moves the buffer on demand; devices that use it are told before.</summary>
/// <remarks>Where the buffer lies, and which tables there are, changes with the reservation lock held.</remarks>
internal sealed class RamBuffer : DmaBufExporter
{
    private const byte Poison = 0xA5;

    private readonly List<SgTable> _tables = [];
    private MemoryRegion _place;
    private bool _isPinned;

    internal RamBuffer(string name, long size)
    {
        Buffer = new DmaBuf(name, size, this);
        _place = MemoryRegion.Allocate(name, size);
    }

    internal DmaBuf Buffer { get; }

    /// <summary>Moves the buffer to other memory. May sleep; not while holding a map reference or a reservation lock (T15).</summary>
    internal InvalidationReport Move(CancellationToken cancellationToken)
    {
        MemoryRegion next = MemoryRegion.Allocate(Buffer.Name, Buffer.Size); // before the lock: everybody waits for its holder
        try
        {
            using ReservationGuard guard = Buffer.Reservation.Lock(null, cancellationToken);
            if (_isPinned)
                throw new DmaBufIoException(Errno.EBUSY, "MovingRam", Buffer.Name, "a static attachment keeps the buffer where it is", "Detach its device first");

            // Importers give their maps up, with the lock held (F6); in the fenced design each leaves a fence. Then nobody uses the old place any more (F7).
            InvalidationReport report = Buffer.InvalidateMappings(guard.Held);
            Buffer.Reservation.Wait(FenceUsage.Bookkeep);
            next.CopyFrom(_place);
            MemoryRegion old = _place;
            _place = next;
            old.Fill(Poison);
            old.MarkDead(); // a device that still touches it is found out
            if (!IsMapped(old))
                old.Dispose();
            return report;
        }
        catch when (_place != next)
        {
            next.Dispose();
            throw;
        }
    }

    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held)
    {
        SgTable table = MapMemory(attachment, direction, [new MemoryRange(_place, 0, Buffer.Size)]);
        _tables.Add(table);
        return table;
    }

    public override void Unmap(SgTable table, in HeldReservation held)
    {
        UnmapMemory(table);
        _tables.Remove(table);
        MemoryRegion place = PlaceOf(table);
        if (place.IsDead && !IsMapped(place))
            place.Dispose(); // left long ago; this was its last mapping
    }

    public override void Pin(in HeldReservation held) => _isPinned = true;

    public override void Unpin(in HeldReservation held) => _isPinned = false;

    public override BufferBacking Describe() => new(BackingKind.HostMemory, [new MemoryRange(_place, 0, Buffer.Size)], CanMove: true);

    public override void Release() => _place.Dispose();

    private static MemoryRegion PlaceOf(SgTable table) => table.Ranges[0].Memory.Region;

    private bool IsMapped(MemoryRegion place) => _tables.Exists(table => PlaceOf(table) == place);
}
