using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Exporters;

/// <summary>
/// An exporter over memory files that moves its buffer on demand, as a GPU's memory manager does under pressure: what makes invalidation meaningful.
/// </summary>
/// <remarks>
/// A move takes the reservation lock, invalidates, waits for every fence, copies the contents to a new place, poisons the old one and marks it dead.
/// A place is freed when nothing maps it any more: an old mapping outlives the invalidation until the importer's worker has unmapped it.
/// The current place and the counts of mappings change with the reservation lock held.
/// </remarks>
public sealed class MovingExporter : DmaBufExporter
{
    /// <summary>The byte with which an old place is filled.</summary>
    public static byte Poison => 0xDB;

    private readonly Dictionary<SgTable, Place> _tables = [];
    private Place _current;
    private DmaBuf? _buffer;
    private int _pins;

    private MovingExporter(string name, long size) => _current = new Place(MemoryRegion.Allocate(name, size));

    /// <summary>The buffer.</summary>
    public DmaBuf Buffer => _buffer!;

    /// <summary>Moves made so far.</summary>
    public long Moves { get; private set; }

    /// <summary>The memory the buffer lives in now. Stable while the reservation lock is held or nothing moves the buffer.</summary>
    public MemoryRegion Region => _current.Region;

    /// <summary>Places that were left and are still mapped by someone.</summary>
    public int OldPlaces { get; private set; }

    /// <summary>Creates a buffer.</summary>
    /// <param name="name">A name for messages.</param>
    /// <param name="size">Bytes, a positive multiple of the page size.</param>
    /// <returns>The exporter; its buffer has one reference.</returns>
    public static MovingExporter Create(string name, long size)
    {
        var exporter = new MovingExporter(name, size);
        exporter._buffer = new DmaBuf(name, size, exporter);
        return exporter;
    }

    /// <summary>Moves the buffer to other memory; may sleep. Not while holding a map reference or a reservation lock (T15).</summary>
    /// <param name="cancellationToken">Interrupts the wait for the lock; what has begun is finished.</param>
    /// <returns>What the invalidation hit.</returns>
    /// <exception cref="OperationCanceledException">Cancelled before the lock was taken.</exception>
    /// <exception cref="DmaBufIoException">The buffer is pinned by a static attachment (<c>EBUSY</c>).</exception>
    public InvalidationReport Move(CancellationToken cancellationToken = default)
    {
        // Memory first: allocating takes time, and everyone waits for the lock's holder.
        Place next = new(MemoryRegion.Allocate(Buffer.Name, Buffer.Size));
        ReservationGuard guard;
        try
        {
            guard = Buffer.Reservation.Lock(null, cancellationToken);
        }
        catch
        {
            next.Region.Dispose();
            throw;
        }

        using (guard)
        {
            if (_pins != 0)
            {
                next.Region.Dispose();
                throw new DmaBufIoException(Errno.EBUSY, "Models", Buffer.Name, "the buffer is pinned by a static attachment", "Detach the device that pins it, or attach it dynamically");
            }

            InvalidationReport report = Buffer.InvalidateMappings(guard.Held);

            // The fenced design returns at once and leaves a fence per map; the draining one leaves none (F7).
            Buffer.Reservation.Wait(FenceUsage.Bookkeep);
            Place old = _current;
            next.Region.CopyFrom(old.Region);
            _current = next;
            old.Region.Fill(Poison);
            old.Region.MarkDead();
            if (old.Mappings == 0)
                old.Region.Dispose();
            else
                OldPlaces++;
            Moves++;
            return report;
        }
    }

    /// <inheritdoc/>
    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held)
    {
        SgTable table = MapMemory(attachment, direction, [new MemoryRange(_current.Region, 0, Buffer.Size)]);
        _tables.Add(table, _current);
        _current.Mappings++;
        return table;
    }

    /// <inheritdoc/>
    public override void Unmap(SgTable table, in HeldReservation held)
    {
        UnmapMemory(table);
        _tables.Remove(table, out Place? place);
        if (--place!.Mappings == 0 && place.Region.IsDead)
        {
            place.Region.Dispose();
            OldPlaces--;
        }
    }

    /// <inheritdoc/>
    public override void Pin(in HeldReservation held) => _pins++;

    /// <inheritdoc/>
    public override void Unpin(in HeldReservation held) => _pins--;

    /// <inheritdoc/>
    public override BufferBacking Describe() => new(BackingKind.HostMemory, [new MemoryRange(_current.Region, 0, Buffer.Size)], CanMove: true);

    /// <inheritdoc/>
    public override void Release() => _current.Region.Dispose();

    private sealed class Place(MemoryRegion region)
    {
        internal MemoryRegion Region { get; } = region;

        internal int Mappings { get; set; }
    }
}
