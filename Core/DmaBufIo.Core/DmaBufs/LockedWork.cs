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
/// </remarks>
internal sealed class LockedWork(ReservationObject reservation)
{
    private readonly Lock _lock = new();
    private List<ILockedWork> _waiting = [];
    private bool _busy;

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
                return null;
            }
        }

        List<ILockedWork> batch;
        using ReservationGuard guard = reservation.Lock();

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
}
