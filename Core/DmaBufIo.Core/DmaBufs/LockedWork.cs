using DmaBufIo.Sync;

namespace DmaBufIo.DmaBufs;

/// <summary>Something that a worker does with a buffer's reservation lock held, and something that it does right after.</summary>
internal interface ILockedWork
{
    /// <summary>The part that needs the lock; does not throw.</summary>
    /// <param name="held">Proof that the lock is held.</param>
    void RunLocked(in HeldReservation held);

    /// <summary>The rest, without the lock; does not throw.</summary>
    void Finish();
}

/// <summary>
/// What workers have to do under one buffer's lock: however much there is, one worker waits for the lock and does it all, the others go on.
/// </summary>
/// <remarks>
/// An exporter may hold the lock for long (F6). If every piece of work waited for it on a worker of its own, one buffer could take all
/// workers, and a fence of another buffer, or of this one, would not signal because the worker that is to signal it never runs (F3, D2b).
/// While the lock is held nobody is woken to wait for it: whoever gives it back does that. So an invalidation, which returns with the lock held, does not pay for
/// waking a worker. Adding looks at the lock under <c>_lock</c>, and unlocking looks at what there is to do under it after the lock was given back: whichever
/// comes second sees the other.
/// </remarks>
internal sealed class LockedWork
{
    private readonly ReservationObject _reservation;
    private readonly Lock _lock = new();
    private readonly Runner _runner;
    private List<ILockedWork> _waiting = [];
    private WorkQueue? _workers;
    private bool _busy;

    internal LockedWork(ReservationObject reservation)
    {
        _reservation = reservation;
        _runner = new Runner(this);
    }

    /// <summary>Leaves the work to a worker. Never sleeps; callable in completion context.</summary>
    /// <param name="work">The work.</param>
    /// <param name="workers">Whose worker does it, unless one is at work for this buffer already.</param>
    internal void Queue(ILockedWork work, WorkQueue workers)
    {
        lock (_lock)
        {
            _waiting.Add(work);
            _workers = workers;
            if (_busy || _reservation.IsLocked)
                return;
            _busy = true;
        }

        workers.Queue(_runner);
    }

    /// <summary>Does the work, or leaves it to the worker that waits for the lock already. Called by workers; may sleep.</summary>
    /// <param name="work">The work.</param>
    internal void Do(ILockedWork work)
    {
        lock (_lock)
        {
            _waiting.Add(work);
            if (_busy)
                return;
            _busy = true;
        }

        Run();
    }

    /// <summary>The lock was given back: what was left to a worker meanwhile gets one, also when somebody else has the lock now, so that its turn comes.</summary>
    internal void Unlocked()
    {
        WorkQueue workers;
        lock (_lock)
        {
            if (_busy || _waiting.Count == 0)
                return;
            _busy = true;
            workers = _workers!;
        }

        workers.Queue(_runner);
    }

    private void Run()
    {
        while (Take() is { } batch)
        {
            foreach (ILockedWork done in batch)
                done.Finish();
        }
    }

    private List<ILockedWork>? Take()
    {
        lock (_lock)
        {
            if (_waiting.Count == 0)
            {
                _busy = false;
                _workers = null;
                return null;
            }
        }

        List<ILockedWork> batch;
        using ReservationGuard guard = _reservation.Lock();

        // Taken with the lock held: also what was added while it was waited for.
        lock (_lock)
        {
            batch = _waiting;
            _waiting = [];
        }

        foreach (ILockedWork work in batch)
            work.RunLocked(guard.Held);
        return batch;
    }

    private sealed class Runner(LockedWork work) : WorkItem
    {
        protected internal override void Run() => work.Run();
    }
}
