using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Sync;

namespace DmaBufIo.Fixtures.FaultyExporter;

/// <summary>A buffer. Where it lies, and what is mapped, changes with the reservation lock held.</summary>
internal sealed class OwnedBuffer : DmaBufExporter
{
    private readonly Dictionary<SgTable, Place> _tables = [];
    private readonly Fault _fault;
    private Place _current;
    private DmaBuf? _buffer;
    private int _pins;

    private OwnedBuffer(string name, long size, Fault fault)
    {
        _fault = fault;
        _current = new Place(name, size);
    }

    internal DmaBuf Buffer => _buffer!;

    internal Place Place => _current;

    /// <summary>What a job has answered last.</summary>
    internal (long Offset, long Length, byte[] Hash)? Remembered { get; set; }

    /// <summary>Milliseconds that each job on it takes longer.</summary>
    internal int Slow { get; set; }

    /// <summary>Whether it is moved by a thread of the exporter's own, for which the caller waits.</summary>
    internal bool HasMover { get; set; }

    // Jobs take no lock.
    public override bool FencesNeedNoLock => true;

    internal static OwnedBuffer Create(string name, long size, Fault fault)
    {
        var made = new OwnedBuffer(name, size, fault);
        try
        {
            made._buffer = new DmaBuf(name, size, made);
            return made;
        }
        catch
        {
            made._current.Free();
            throw;
        }
    }

    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held)
    {
        if (_fault.Is("map-waits-for-a-worker"))
            Restore();

        // A device that writes waits for jobs that read, too. None of them needs the lock.
        FenceUsage usage = (direction & DmaDirection.FromDevice) != 0 && !_fault.Is("maps-under-jobs-that-read") ? FenceUsage.Read : FenceUsage.Write;
        if (Buffer.Reservation.Wait(usage, context: held.Context) != Errno.Ok)
            throw new DmaBufIoException(Errno.EDEADLK, "faulty", Buffer.Name, "an older acquire context wants the buffer", "Give the lock back and start again", rule: "F5");
        if (_fault.Is("keeps-old-tables") && _tables.Keys.FirstOrDefault(t => t.Attachment == attachment && t.Direction == direction) is { } known)
            return known;
        Place place = _current;
        SgTable table = MapPlace(attachment, direction, place);
        _tables.Add(table, place);
        place.Mappings++;
        return table;
    }

    public override void Unmap(SgTable table, in HeldReservation held)
    {
        if (_fault.Is("unmaps-all-of-the-device"))
        {
            foreach (SgTable other in _tables.Keys.Where(t => t.Attachment == table.Attachment && t != table).ToArray())
                UnmapMemory(other);
        }

        if (_fault.Is("unmaps-all-but-the-last"))
            table.Ranges[0].Space.Unmap([.. table.Ranges.SkipLast(1)]);
        else
            UnmapMemory(table);
        _tables.Remove(table, out Place? place);
        if (--place!.Mappings == 0 && !ReferenceEquals(place, _current))
            place.Free();
    }

    public override void Pin(in HeldReservation held) => _pins += _fault.Is("ignores-pins") ? 0 : 1;

    public override void Unpin(in HeldReservation held) => _pins -= _fault.Is("ignores-pins") ? 0 : 1;

    public override BufferBacking Describe() => new(BackingKind.HostMemory, _current.Ranges, CanMove: true);

    public override void Release() => _current.Free();

    /// <summary>Moves the buffer to other memory.</summary>
    internal InvalidationReport Move(CancellationToken cancellationToken)
    {
        var next = new Place(Buffer.Name, Buffer.Size);
        InvalidationReport report;
        using (ReservationGuard guard = Lock(next, cancellationToken))
        {
            if (_pins != 0)
            {
                next.Free();
                throw new DmaBufIoException(Errno.EBUSY, "faulty", Buffer.Name, "the buffer is pinned by a static attachment", "Detach the device that pins it, or attach it dynamically");
            }

            if (_fault.Is("copies-before-it-invalidates"))
                next.CopyFrom(_current);
            if (_fault.Is("poisons-before-it-invalidates"))
            {
                next.CopyFrom(_current);
                _current.Fill(Place.Poison);
            }

            report = _fault.Is("tells-nobody") ? default : Buffer.InvalidateMappings(guard.Held);
            if (!_fault.Is("waits-for-no-fence"))
                Buffer.Reservation.Wait(FenceUsage.Bookkeep);
            if (!_fault.Is("moves-after-unlocking") && !_fault.Is("unlocks-in-between"))
                GoTo(next);
        }

        if (_fault.Is("moves-after-unlocking"))
            GoTo(next);
        if (_fault.Is("unlocks-in-between"))
        {
            using ReservationGuard again = Buffer.Reservation.Lock(null, CancellationToken.None);
            GoTo(next);
        }

        return report;
    }

    /// <summary>Adds a fence that nobody signals before long.</summary>
    internal void LeaveFence()
    {
        using ReservationGuard guard = Buffer.Reservation.Lock();
        Buffer.Reservation.Reserve(guard.Held, 1);
        var fence = new DmaFence("faulty", DmaFence.NewContext(), 1);
        Buffer.Reservation.Add(guard.Held, fence, FenceUsage.Write);
        _ = Task.Delay(Fault.Patience).ContinueWith(_ => fence.Signal(), TaskScheduler.Default);
    }

    private ReservationGuard Lock(Place next, CancellationToken cancellationToken)
    {
        try
        {
            return Buffer.Reservation.Lock(null, cancellationToken);
        }
        catch
        {
            next.Free();
            throw;
        }
    }

    // The contents follow; nobody uses the old place any more.
    private void GoTo(Place next)
    {
        Place old = _current;
        if (!_fault.Is("copies-before-it-invalidates") && !_fault.Is("poisons-before-it-invalidates"))
            next.CopyFrom(old, _fault.Is("forgets-the-last-piece") ? next.Ranges.Length - 1 : int.MaxValue);
        _current = next;
        if (!_fault.Is("leaves-the-old-place-alive"))
        {
            old.Fill(Place.Poison);
            old.MarkDead();
        }

        if (old.Mappings == 0)
            old.Free();
    }

    private SgTable MapPlace(DmaAttachment attachment, DmaDirection direction, Place place)
    {
        MemoryRange[] ranges = [.. place.Ranges];
        if (_fault.Is("maps-in-the-wrong-order"))
            Array.Reverse(ranges);
        if (_fault.Is("forgets-the-last-range") && ranges.Length > 1)
            ranges = ranges[..^1];
        if (_fault.Is("counts-in-30-bits"))
            ranges = Truncated(ranges, Buffer.Size & ((1 << 30) - 1));
        if (_fault.Is("maps-both-ways"))
            return new SgTable(attachment, direction, MapMemory(attachment, DmaDirection.Bidirectional, ranges).Ranges);
        if (_fault.Is("gives-others-addresses") && _tables.Keys.FirstOrDefault(t => t.Direction == direction && t.Generation == Buffer.Generation) is { } others)
            return new SgTable(attachment, direction, others.Ranges);
        if (!_fault.Is("leaves-a-half-made-map"))
            return MapMemory(attachment, direction, ranges);
        var made = new List<DeviceRange>();
        foreach (MemoryRange range in ranges)
            made.Add(attachment.Device.AddressSpace.Map(range, direction, attachment.Buffer.Name, attachment.Buffer.Generation));
        return new SgTable(attachment, direction, made.ToArray());
    }

    private static MemoryRange[] Truncated(MemoryRange[] ranges, long size)
    {
        var kept = new List<MemoryRange>();
        foreach (MemoryRange range in ranges)
        {
            if (size > 0)
                kept.Add(range with { Length = Math.Min(range.Length, size) });
            size -= range.Length;
        }

        return [.. kept];
    }

    // Called with the lock held, and waits for a worker that takes it. Both give up in the end, so that only this buffer is stuck.
    private void Restore()
    {
        using var workers = new WorkQueue("faulty restore", 1);
        var restored = new DmaFence("faulty restore", DmaFence.NewContext(), 1);
        workers.Queue(new RestoreItem(Buffer, restored));
        restored.Wait();
    }

    private sealed class RestoreItem(DmaBuf buffer, DmaFence restored) : WorkItem
    {
        protected override void Run()
        {
            using var limit = new CancellationTokenSource(Fault.Patience);
            if (buffer.Reservation.TryLock(out ReservationGuard guard, null, limit.Token) == Errno.Ok)
                guard.Dispose();
            restored.Signal();
        }
    }
}
