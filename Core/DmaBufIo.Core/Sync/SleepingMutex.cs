using DmaBufIo.Errors;

namespace DmaBufIo.Sync;

/// <summary>A plain mutual exclusion lock that a thread may hold across waits (creators of maps, visitors of contexts).</summary>
/// <remarks>
/// Whoever comes takes it when it is free, which is cheap; but who was woken and finds it taken again has the next turn: a thread that gives it back and takes it again at once, as
/// workers do, is back sooner than another one wakes, and would keep it out for as long as it works.
/// </remarks>
public sealed class SleepingMutex
{
    private readonly WaitQueue _queue = new();
    private readonly string _name;
    private readonly long _number = SchedulePoint.NewObject();
    private Parker? _holder;
    private Parker? _next; // was woken in vain; nobody else takes the free mutex by waiting for it

    /// <summary>Creates a free mutex.</summary>
    /// <param name="name">What it protects, for snapshots.</param>
    public SleepingMutex(string name) => _name = name;

    /// <summary>True while any thread holds it.</summary>
    public bool IsHeld => Volatile.Read(ref _holder) is not null;

    /// <summary>True while the calling thread holds it.</summary>
    internal bool IsHeldByCurrentThread => ReferenceEquals(Volatile.Read(ref _holder), Parker.Current);

    /// <summary>Takes the mutex; waits while another thread holds it.</summary>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns><c>Ok</c>, <c>EINTR</c> when cancelled, <c>EDEADLK</c> when this thread holds it already.</returns>
    /// <exception cref="DmaBufIoException">The thread may not sleep here (T15).</exception>
    public Errno Lock(CancellationToken cancellationToken = default)
    {
        NoSleepContext.AssertMaySleep(_name);
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Lock, _number);
        Parker me = Parker.Current;
        if (TryTake(me))
            return Errno.Ok;
        return IsHeldByCurrentThread ? Errno.EDEADLK : Await(me, cancellationToken);
    }

    private Errno Await(Parker me, CancellationToken cancellationToken)
    {
        var reason = new WaitReason(_name, () => $"held by {Volatile.Read(ref _holder)?.ThreadName ?? "nobody"}");
        try
        {
            while (true)
            {
                Errno status = _queue.Wait(() => Volatile.Read(ref _holder) is null && IsMyTurn(me), reason, cancellationToken);
                if (status != Errno.Ok || TryTake(me))
                    return status;
                Interlocked.CompareExchange(ref _next, me, null);
            }
        }
        finally
        {
            // Taken, cancelled or thrown out: the turn is over. Who waits for it is woken by the unlocking, or here.
            if (ReferenceEquals(Interlocked.CompareExchange(ref _next, null, me), me))
                _queue.WakeAll();
        }
    }

    private bool TryTake(Parker me) => IsMyTurn(me) && Interlocked.CompareExchange(ref _holder, me, null) is null;

    private bool IsMyTurn(Parker me) => Volatile.Read(ref _next) is not { } next || ReferenceEquals(next, me);

    /// <summary>Takes the mutex if it is free, whoever has the next turn; never waits.</summary>
    /// <returns>True when this thread holds it now and did not before.</returns>
    public bool TryLock()
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Lock, _number);
        return Interlocked.CompareExchange(ref _holder, Parker.Current, null) is null;
    }

    /// <summary>Gives the mutex back.</summary>
    /// <exception cref="InvalidOperationException">The calling thread does not hold it.</exception>
    public void Unlock()
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Unlock, _number);
        if (!ReferenceEquals(Interlocked.CompareExchange(ref _holder, null, Parker.Current), Parker.Current))
            throw new InvalidOperationException($"{_name} is not held by thread '{Parker.Current.ThreadName}'.");
        _queue.WakeAll();
    }
}
