using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Engines;
using DmaBufIo.Sync;

namespace DmaBufIo.Exporters.Gpu.Memory;

/// <summary>Moves buffers between the GPU's memory and main memory: evicts the least recently used when there is no room.</summary>
/// <remarks>
/// Protocol. A move needs the buffer's reservation lock. It invalidates the importers (F6), leaves the copying to the copy engine, behind every fence of the buffer, and publishes a KERNEL fence; the
/// place that was left is the GPU's again when the copy engine is done with it (F7). Whoever needs room holds its own buffer's lock, with an acquire context, and takes those of the
/// buffers it evicts one after the other: at once where they are free, else with the context, and gives everything back when it is wounded. It waits for the copy engine with its locks held,
/// which is allowed: engines take none (F3, F4).
/// Those who need room stand in line, the oldest context first, and only the first takes any: else small buffers would take what was evicted for a large one. Who waits in line is wounded like
/// who waits for a lock; the first waits for nobody in line, because a lock that one of them holds is held by a younger context.
/// </remarks>
internal sealed class MemoryManager(VramHeap heap, SystemPool pool, Engine copies)
{
    private readonly Lock _lock = new();
    private readonly List<GpuBuffer> _resident = []; // in the GPU's memory, or on their way into it
    private readonly List<(DmaFence Fence, long Size)> _departing = []; // places that become free
    private readonly WaitQueue _changed = new();
    private int _inTransit; // memory that was taken for a buffer or is being left by one, and is in neither list
    private long _transits; // that have ended
    private readonly SortedSet<long> _line = []; // ages of those who need room
    private readonly WaitQueue _turn = new();
    private long _uses;
    private long _evictions;
    private long _restores;

    /// <summary>Buffers moved out of the GPU's memory so far.</summary>
    internal long Evictions => Volatile.Read(ref _evictions);

    /// <summary>Buffers moved into it so far, after they had been moved out.</summary>
    internal long Restores => Volatile.Read(ref _restores);

    /// <summary>A buffer was used: others are evicted before it.</summary>
    internal void Used(GpuBuffer buffer)
    {
        lock (_lock)
            buffer.LastUse = ++_uses;
    }

    /// <summary>A buffer is in memory that was taken for it.</summary>
    internal void Add(GpuBuffer buffer)
    {
        lock (_lock)
        {
            _resident.Add(buffer);
            buffer.LastUse = ++_uses;
        }

        EndTransit();
    }

    /// <summary>Memory that was taken was given back: nobody came into it.</summary>
    internal void EndTransit()
    {
        lock (_lock)
        {
            _inTransit--;
            _transits++;
        }

        _changed.WakeAll();
    }

    internal void Remove(GpuBuffer buffer)
    {
        lock (_lock)
            _resident.Remove(buffer);
    }

    /// <summary>Moves a buffer to main memory. Its lock is held.</summary>
    /// <returns>What the invalidation hit.</returns>
    internal InvalidationReport MoveToSystem(GpuBuffer buffer, string why, in HeldReservation held)
    {
        Place place = pool.Take(buffer.Buffer.Name, buffer.Buffer.Size);
        lock (_lock)
        {
            _resident.Remove(buffer);
            _inTransit++;
        }

        InvalidationReport report;
        try
        {
            report = Move(buffer, place, why, held);
        }
        catch
        {
            place.Leave(poison: false);
            Add(buffer);
            throw;
        }

        EndTransit();
        Interlocked.Increment(ref _evictions);
        buffer.Set?.Evicted();
        return report;
    }

    /// <summary>Moves a buffer into the GPU's memory, where it is not there already. Its lock is held with the context; those of others are taken on the way.</summary>
    /// <param name="buffer">The buffer.</param>
    /// <param name="context">With which its lock is held.</param>
    /// <param name="held">Proof of that.</param>
    /// <param name="report">What the invalidation hit.</param>
    /// <returns><c>Ok</c>; <c>EBUSY</c>: it is pinned where it is; <c>EDEADLK</c>: the context was wounded; <c>ENOMEM</c>: there is no room, and nobody who could be evicted.</returns>
    internal Errno TryMoveToVram(GpuBuffer buffer, AcquireContext context, in HeldReservation held, out InvalidationReport report)
    {
        report = default;
        if (buffer.Place.IsVram)
            return Errno.Ok;
        if (buffer.Pins != 0)
            return Errno.EBUSY; // pinned in main memory
        Errno status = TryTake(VramHeap.Rounded(buffer.Buffer.Size), buffer.Priority, context, out IReadOnlyList<VramRange>? ranges);
        if (status != Errno.Ok)
            return status;
        Place place = heap.PlaceOf(buffer.Buffer.Name, buffer.Buffer.Size, ranges!);
        try
        {
            report = Move(buffer, place, "peer-to-peer", held);
        }
        catch
        {
            place.Leave(poison: false);
            EndTransit();
            throw;
        }

        Add(buffer);
        Interlocked.Increment(ref _restores);
        return Errno.Ok;
    }

    /// <summary>Takes memory of the GPU, evicting others where there is not enough.</summary>
    /// <param name="size">Bytes, whole granules.</param>
    /// <param name="priority">Of whom it is for.</param>
    /// <param name="context">With which the caller holds its locks, if it holds any.</param>
    /// <param name="ranges">What was taken, when the answer is <c>Ok</c>.</param>
    /// <returns>
    /// <c>Ok</c>: <see cref="Add"/> follows, or <see cref="EndTransit"/>. <c>EDEADLK</c> or <c>ENOMEM</c> as for <see cref="TryMoveToVram"/>.
    /// </returns>
    internal Errno TryTake(long size, int priority, AcquireContext context, out IReadOnlyList<VramRange>? ranges)
    {
        lock (_lock)
        {
            if (_line.Count == 0 && (ranges = heap.TryTake(size)) is not null)
            {
                _inTransit++;
                return Errno.Ok;
            }

            _line.Add(context.Stamp);
        }

        try
        {
            return TakeInLine(size, priority, context, out ranges);
        }
        finally
        {
            lock (_lock)
                _line.Remove(context.Stamp);
            _turn.WakeAll();
        }
    }

    private Errno TakeInLine(long size, int priority, AcquireContext context, out IReadOnlyList<VramRange>? ranges)
    {
        ranges = null;
        while (true)
        {
            Errno status = _turn.Wait(() => IsFirst(context), new WaitReason($"turn for {size} bytes of the GPU's memory"), context: context);
            if (status == Errno.Ok && context.MustBackOff)
                status = Errno.EDEADLK;
            if (status != Errno.Ok)
                return status;
            long transits = Volatile.Read(ref _transits);
            if (TryTake(size, out ranges))
                return Errno.Ok;
            if (NextDeparting(size) is { } enough)
            {
                enough.Wait();
                continue;
            }

            status = TryEvictOne(priority, context);
            if (status is Errno.EAGAIN or Errno.Ok)
                continue;
            if (status == Errno.EDEADLK)
                return status;

            // Nobody is left who could go. What others have given up comes back all the same.
            if (NextDeparting(0) is { } some)
                some.Wait();
            else if (IsInTransit(transits))
                _changed.Wait(() => Volatile.Read(ref _transits) != transits, new WaitReason("buffers on their way into or out of the GPU's memory"), context: context);
            else
                return TryTake(size, out ranges) ? Errno.Ok : Errno.ENOMEM;
        }
    }

    private bool TryTake(long size, out IReadOnlyList<VramRange>? ranges)
    {
        lock (_lock)
        {
            ranges = heap.TryTake(size);
            if (ranges is not null)
                _inTransit++;
            return ranges is not null;
        }
    }

    // What is in transit is a candidate, or becomes free, when its transit has ended. One that has ended since is looked at anew.
    private bool IsInTransit(long seen)
    {
        lock (_lock)
            return _inTransit != 0 || _transits != seen;
    }

    private bool IsFirst(AcquireContext context)
    {
        lock (_lock)
            return _line.Min == context.Stamp;
    }

    /// <summary>The next place to become free, when those that will together make room enough.</summary>
    private DmaFence? NextDeparting(long size)
    {
        lock (_lock)
        {
            // What has signalled is in the heap.
            _departing.RemoveAll(static d => d.Fence.IsSignaled);
            return _departing.Count != 0 && heap.Free + _departing.Sum(static d => d.Size) >= size ? _departing[0].Fence : null;
        }
    }

    /// <summary>Evicts a buffer.</summary>
    /// <returns><c>Ok</c>; <c>EAGAIN</c>: others were quicker, look again; <c>EDEADLK</c>: wounded; <c>ENOMEM</c>: all are pinned, of a higher priority, or in use by this context.</returns>
    private Errno TryEvictOne(int priority, AcquireContext context)
    {
        GpuBuffer[] candidates;
        bool isFreed = false; // somebody's last reference is gone, and the memory comes back at once
        lock (_lock)
        {
            candidates = [.. _resident.Where(b => b.Priority <= priority && IsAlive(b)).OrderBy(static b => b.Priority).ThenBy(static b => b.LastUse)];
            bool IsAlive(GpuBuffer buffer)
            {
                bool alive = buffer.Buffer.TryGet();
                isFreed |= !alive;
                return alive;
            }
        }

        try
        {
            // Those that nobody has locked first.
            foreach (GpuBuffer candidate in candidates)
            {
                if (!candidate.Buffer.Reservation.TryLockAtOnce(out ReservationGuard guard, context))
                    continue;
                using (guard)
                {
                    if (TryEvict(candidate, guard.Held))
                        return Errno.Ok;
                }
            }

            Errno answer = isFreed ? Errno.EAGAIN : Errno.ENOMEM;
            if (isFreed)
                Thread.Yield();
            foreach (GpuBuffer candidate in candidates)
            {
                Errno status = candidate.Buffer.Reservation.TryLock(out ReservationGuard guard, context);
                if (status == Errno.EALREADY)
                    continue; // in use by the caller's own job
                if (status != Errno.Ok)
                    return Errno.EDEADLK;
                using (guard)
                {
                    if (TryEvict(candidate, guard.Held))
                        return Errno.Ok;
                    if (candidate.Pins == 0)
                        answer = Errno.EAGAIN;
                }
            }

            return answer;
        }
        finally
        {
            foreach (GpuBuffer candidate in candidates)
                candidate.Buffer.Put();
        }
    }

    private bool TryEvict(GpuBuffer buffer, in HeldReservation held)
    {
        if (!buffer.Place.IsVram || buffer.Pins != 0)
            return false;
        MoveToSystem(buffer, "evicted: others needed the GPU's memory", held);
        return true;
    }

    private InvalidationReport Move(GpuBuffer buffer, Place place, string why, in HeldReservation held)
    {
        DmaBuf shared = buffer.Buffer;
        ReservationObject reservation = shared.Reservation;

        // It may throw; nothing has changed then. What follows does not.
        InvalidationReport report = shared.InvalidateMappings(held);

        // Jobs, earlier moves, and in the fenced design the requests that still use the old place.
        IReadOnlyList<DmaFence> before = reservation.Unsignaled(FenceUsage.Bookkeep);
        Place old = buffer.Place;
        reservation.Reserve(held, 1);
        DmaFence fence = copies.NewFence();
        shared.Get();
        copies.Queue(new EngineJob(fence, before, () => Copy(old, place)) { Afterwards = shared.Put });
        reservation.Add(held, fence, FenceUsage.Kernel);
        buffer.MovedTo(place, why, report);
        if (old.IsVram)
        {
            lock (_lock)
            {
                _departing.RemoveAll(static d => d.Fence.IsSignaled);
                _departing.Add((fence, VramHeap.Rounded(shared.Size)));
            }
        }

        return report;
    }

    private static void Copy(Place old, Place place)
    {
        place.CopyFrom(old);
        old.Leave(poison: true);
    }
}
