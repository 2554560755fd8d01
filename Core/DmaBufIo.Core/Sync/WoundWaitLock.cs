using System.Diagnostics;
using DmaBufIo.Errors;

namespace DmaBufIo.Sync;

/// <summary>
/// The lock of a reservation object: a wound/wait mutex. With an acquire context a locker can hold several of them without a fixed order;
/// without one it waits its turn and cannot be wounded (F5).
/// </summary>
/// <remarks>
/// Protocol. All state of all these locks is guarded by one short static lock, the graph lock: taking a reservation lock is a slow path, and
/// one lock over the graph makes wounding, hand-over and snapshots simple. Nobody waits while holding it.
/// A free lock goes to whoever asks. A held one: the asker joins the waiters (contexts by age among each other, others in order of arrival)
/// and, when it is older than the holder's context, wounds that context. Unlocking hands the lock to the first waiter; waiters older than
/// the new holder wound it in turn. A wounded context notices at its next lock or woundable wait.
/// A waiter stands in line first and then looks whether it gets the lock for a moment before it sleeps: most holds are short, and waking a thread costs its waker
/// more than they take.
/// </remarks>
public sealed class WoundWaitLock
{
    private static readonly Lock s_graph = new();

    // About what waking a thread costs. Nothing depends on it.
    private static readonly long s_patience = Environment.ProcessorCount == 1 || SchedulePoint.Enabled ? 0 : Stopwatch.Frequency / 1_000_000 * 20;

    private readonly WaitQueue _queue = new();
    private readonly List<Waiter> _waiters = [];
    private readonly long _number = SchedulePoint.NewObject();
    private Parker? _holder;
    private AcquireContext? _holderContext;
    private long _heldSince;

    /// <summary>Creates a free lock.</summary>
    /// <param name="name">What it protects, for messages: the buffer's name.</param>
    public WoundWaitLock(string name) => Name = name;

    /// <summary>What the lock protects.</summary>
    public string Name { get; }

    /// <summary>True when the current thread holds the lock.</summary>
    public bool IsHeldByCurrentThread => ReferenceEquals(Volatile.Read(ref _holder), Parker.Current);

    /// <summary>True while anyone holds the lock.</summary>
    public bool IsHeld => Volatile.Read(ref _holder) is not null;

    /// <summary>Takes the lock; may sleep.</summary>
    /// <param name="context">The acquire context, or null.</param>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns>
    /// <c>Ok</c>; <c>EALREADY</c> when this context holds the lock; <c>EDEADLK</c> when the context was wounded and must give all its locks back, or
    /// when the thread holds this lock without a context; <c>EINTR</c> when cancelled.
    /// </returns>
    /// <exception cref="DmaBufIoException">The thread may not sleep here (T15).</exception>
    public Errno Lock(AcquireContext? context = null, CancellationToken cancellationToken = default)
    {
        NoSleepContext.AssertMaySleep($"reservation lock of {Name}");
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Lock, _number);
        Parker me = Parker.Current;
        Waiter waiter;
        lock (s_graph)
        {
            if (_holder is null)
            {
                Grant(me, context);
                return Errno.Ok;
            }

            if (context is not null && ReferenceEquals(_holderContext, context))
                return Errno.EALREADY;
            if (ReferenceEquals(_holder, me))
                return Errno.EDEADLK;
            if (context is { MustBackOff: true })
                return Errno.EDEADLK;
            waiter = new Waiter(me, context);
            Enqueue(waiter);
            WoundHolderFor(waiter);
        }

        LookFor(waiter);
        var reason = new WaitReason($"reservation lock of {Name}", DescribeHolder);
        Errno status;
        try
        {
            status = _queue.Wait(() => waiter.IsGranted, reason, cancellationToken, context);
        }
        catch
        {
            // The caller will not know that it holds the lock.
            if (LeaveLine(waiter))
                Unlock();
            throw;
        }

        // The grant may have come after the wait gave up: then the lock is ours all the same.
        return LeaveLine(waiter) ? Errno.Ok : status;
    }

    /// <summary>Takes the lock if it is free; never waits.</summary>
    /// <param name="context">The acquire context, or null.</param>
    /// <returns>True when the caller holds the lock now.</returns>
    public bool TryLock(AcquireContext? context = null)
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Lock, _number);
        lock (s_graph)
        {
            if (_holder is not null)
                return false;
            Grant(Parker.Current, context);
            return true;
        }
    }

    /// <summary>Gives the lock back; the first waiter gets it at once.</summary>
    /// <exception cref="InvalidOperationException">The calling thread does not hold it.</exception>
    public void Unlock()
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Unlock, _number);
        lock (s_graph)
        {
            if (!ReferenceEquals(_holder, Parker.Current))
                throw new InvalidOperationException($"The reservation lock of {Name} is not held by thread '{Parker.Current.ThreadName}'.");
            _holderContext?.Released();
            _holder = null;
            _holderContext = null;
            if (_waiters.Count != 0)
            {
                Waiter next = _waiters[0];
                _waiters.RemoveAt(0);
                Grant(next.Parker, next.Context);
                next.IsGranted = true;
                foreach (Waiter other in _waiters)
                    WoundHolderFor(other);
            }
        }

        _queue.WakeAll();
    }

    /// <summary>Who holds the lock, for how long, and who waits, next owner first.</summary>
    internal (string? Holder, TimeSpan HeldFor, string[] Waiters) State()
    {
        lock (s_graph)
        {
            return (
                _holder?.ThreadName,
                _holder is null ? TimeSpan.Zero : Stopwatch.GetElapsedTime(_heldSince),
                [.. _waiters.Select(static w => w.Parker.ThreadName)]);
        }
    }

    private static void LookFor(Waiter waiter)
    {
        long begun = Stopwatch.GetTimestamp();
        while (!waiter.IsGranted && Stopwatch.GetTimestamp() - begun < s_patience)
            Thread.SpinWait(8);
    }

    /// <summary>The wait is over.</summary>
    /// <returns>True when the lock was granted.</returns>
    private bool LeaveLine(Waiter waiter)
    {
        lock (s_graph)
        {
            if (!waiter.IsGranted)
                _waiters.Remove(waiter);
            return waiter.IsGranted;
        }
    }

    private string DescribeHolder()
    {
        (string? holder, TimeSpan heldFor, _) = State();
        return holder is null ? "free" : $"held by {holder} for {heldFor.TotalMilliseconds:0} ms";
    }

    private void Grant(Parker thread, AcquireContext? context)
    {
        _holder = thread;
        _holderContext = context;
        _heldSince = Stopwatch.GetTimestamp();
        context?.Acquired();
    }

    private void Enqueue(Waiter waiter)
    {
        // A context goes before the first younger context; whoever has none keeps its place in the order of arrival.
        int index = waiter.Context is null
            ? -1
            : _waiters.FindIndex(w => w.Context is not null && w.Context.Stamp > waiter.Context.Stamp);
        if (index < 0)
            _waiters.Add(waiter);
        else
            _waiters.Insert(index, waiter);
    }

    private void WoundHolderFor(Waiter waiter)
    {
        if (waiter.Context is not null && _holderContext is not null && waiter.Context.Stamp < _holderContext.Stamp)
            _holderContext.Wound();
    }

    private sealed class Waiter(Parker parker, AcquireContext? context)
    {
        private volatile bool _granted;

        internal Parker Parker { get; } = parker;

        internal AcquireContext? Context { get; } = context;

        internal bool IsGranted
        {
            get => _granted;
            set => _granted = value;
        }
    }
}
