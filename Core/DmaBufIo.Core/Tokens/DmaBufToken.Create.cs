using DmaBufIo.Devices;
using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Sync;

namespace DmaBufIo.Tokens;

/// <content>Making a map (T12), the slow path of a request that found none.</content>
public sealed partial class DmaBufToken
{
    /// <summary>
    /// Takes a reference on the live map and makes one when there is none. May sleep: waits for other creators, for requests on earlier maps, for the
    /// reservation lock and for the exporter's fences.
    /// </summary>
    /// <param name="context">The caller's context, <em>left</em> (<see cref="IoContext.Leave"/>): while it waits, others may reap its queues.</param>
    /// <param name="map">The map with one reference, when the answer is <c>Ok</c>; the context is entered then, and only then.</param>
    /// <param name="cancellationToken">Interrupts every wait.</param>
    /// <returns>
    /// <c>Ok</c>; <c>EINTR</c> when cancelled; <c>ENODEV</c> when the device is gone (T11); <c>ESHUTDOWN</c> when the token is being released; else what the
    /// driver answered (<see cref="LastMapError"/> says why).
    /// </returns>
    public Errno GetMap(IoContext context, out DmaMap? map, CancellationToken cancellationToken = default)
    {
        map = null;
        Errno status = _creators.Lock(cancellationToken);
        if (status != Errno.Ok)
            return status;
        try
        {
            // The age of the attempt counts over its retries: in the end it is the oldest and is not wounded any more.
            var acquire = new AcquireContext();
            while (true)
            {
                status = Attempt(context, acquire, out map, out bool retry, cancellationToken);
                if (!retry)
                    return status;
                if (cancellationToken.IsCancellationRequested)
                    return Errno.EINTR;
            }
        }
        finally
        {
            _creators.Unlock();
        }
    }

    // retry: this attempt has backed off by itself. A driver that answers the same status is not asked again.
    private Errno Attempt(IoContext context, AcquireContext acquire, out DmaMap? map, out bool retry, CancellationToken cancellationToken)
    {
        retry = false;

        // Another creator may have been quicker.
        context.Enter();
        map = TryGetMap(context);
        if (map is not null)
            return Errno.Ok;
        context.Leave();

        Errno status = CheckAlive();
        if (status == Errno.Ok)
            status = WaitForEarlierMaps(cancellationToken);

        // Jobs are waited for without the lock: one of them may need the lock to make progress (D1). The test under the lock is what counts.
        bool waitsLocked = Buffer.Exporter.FencesNeedNoLock;
        if (status == Errno.Ok && !waitsLocked)
            status = Buffer.Reservation.Wait(_options.WaitBeforeMap, cancellationToken);
        if (status != Errno.Ok)
            return status;
        status = Buffer.Reservation.TryLock(out ReservationGuard guard, acquire, cancellationToken);
        if (status != Errno.Ok)
            return status;
        using (guard)
        {
            // Moves are waited for under the lock: a wait before it proves nothing. Their signal needs no lock (F3).
            status = Buffer.Reservation.Wait(waitsLocked ? _options.WaitBeforeMap : FenceUsage.Kernel, cancellationToken, acquire);
            retry = status == Errno.EDEADLK || (status == Errno.Ok && !Buffer.Reservation.IsIdle(_options.WaitBeforeMap));
            if (status != Errno.Ok || retry)
                return status;
            status = MakeAndPublish(context, guard.Held, out map, out retry);
            retry |= status == Errno.EDEADLK && acquire.MustBackOff; // the exporter has waited for its own, and was wounded
            return status;
        }
    }

    private Errno WaitForEarlierMaps(CancellationToken cancellationToken)
    {
        while (true)
        {
            DmaMap? undrained;
            lock (_lock)
                undrained = _killed.Find(static m => !m.Gate.IsDrained);
            if (undrained is null)
                return Errno.Ok;
            Errno status = GateDrain.Drain(undrained.Gate, new WaitReason($"drain of {undrained} before a new map"), cancellationToken);
            if (status != Errno.Ok)
                return status;
        }
    }

    private Errno MakeAndPublish(IoContext context, in HeldReservation held, out DmaMap? map, out bool retry)
    {
        map = null;
        retry = false;
        lock (_lock)
        {
            // From here on the release and the removal wait for this map, though it is not published yet (T10, T11).
            Errno status = CheckAliveLocked();
            if (status != Errno.Ok)
                return status;
            _making = true;
            _makings++;
        }

        bool published = false;
        try
        {
            DmaMap? made = CallMap(held);
            if (made is null)
                return LastMapError!.Errno;
            var unmapWork = new UnmapItem(this, made);
            var gate = new RequestGate(ContextTable.Slots, () => Drained(made, unmapWork));
            made.Bind(this, Buffer.Generation, gate, unmapWork);

            // Counted and published before unlocking: an invalidation in the gap would find nothing and return while a stale map is about to
            // appear. The count is the context's own, so it is taken as its owner.
            context.Enter();
            lock (_lock)
            {
                if (CheckAliveLocked() == Errno.Ok && _driver.IsCurrent(made))
                {
                    if (SchedulePoint.Enabled)
                        SchedulePoint.Reach(StepKind.Publish, _number);
                    published = gate.TryEnter(context.Slot);
                    MapsMade++;
                    LastMapError = null;
                    _making = false;
                    Volatile.Write(ref _live, made);
                }
            }

            if (published)
            {
                Counters.Maps.Add();
                map = made;
                return Errno.Ok;
            }

            // A device went, or the release began, while the driver was mapping: undo it under the same hold.
            context.Leave();
            CallUnmap(made, held);
            Errno status = CheckAlive();
            retry = status == Errno.Ok;
            return status;
        }
        finally
        {
            if (!published)
                StopMaking();
        }
    }

    private DmaMap? CallMap(in HeldReservation held)
    {
        try
        {
            return _driver.Map(held) ?? throw new InvalidOperationException("Map answered null");
        }
        catch (DmaBufIoException e)
        {
            LastMapError = e;
            return null;
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // The request path does not throw: a request cut off here would never end, and its ring could not be closed.
            DmaBufIoDiagnostics.Report(new DriverFault($"Map ({Name})", e));
            LastMapError = new DmaBufIoException(
                Errno.EIO, "Tokens", Name, $"the driver's Map threw {e.GetType().Name}: {e.Message}", "Tell the driver's author: Map throws DmaBufIoException only", inner: e);
            return null;
        }
    }

    private void StopMaking()
    {
        bool releasing;
        lock (_lock)
        {
            _making = false;
            releasing = _state == State.Releasing;
        }

        _unmapped.WakeAll();

        // The release came by meanwhile and left the rest to whoever was making the map. A worker does it: the reservation lock is held here.
        if (releasing)
            Workers.Queue(new ReleaseItem(this));
    }

    private Errno CheckAlive()
    {
        lock (_lock)
            return CheckAliveLocked();
    }

    private Errno CheckAliveLocked()
    {
        if (_state != State.Live)
            return Errno.ESHUTDOWN;
        return _driver.IsLost ? Errno.ENODEV : Errno.Ok;
    }

    /// <summary>Unmaps a map after its last request has ended (T8).</summary>
    private sealed class UnmapItem(DmaBufToken token, DmaMap map) : WorkItem, ILockedWork
    {
        public void RunLocked(in HeldReservation held) => token.CallUnmap(map, held);

        public void Finish() => token.ForgetUnmapped(map);

        protected internal override void Run()
        {
            token.SettleFence(map)?.Signal();
            token.Buffer.Reservation.Work.Do(this);
        }
    }
}
