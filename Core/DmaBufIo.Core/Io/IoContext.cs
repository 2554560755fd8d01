using System.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.Io;

/// <summary>
/// What one ring owns alone: its slot in every request gate, its counters, and the right to work its queues. One thread at a time works a
/// context; a thread that drains a map may borrow it to reap completions that nobody else would (T14).
/// </summary>
/// <remarks>
/// Protocol of ownership, a lock biased towards the owner so that the request path needs no interlocked instruction.
/// <code>
///   owner:    active = 1                 visitor:  (one at a time, under the visitors' mutex)
///             read visiting                         visiting = true
///               true: active = 0, wait,             process-wide barrier
///                     start again                   wait until active = 0; work; visiting = false
/// </code>
/// The visitor's barrier stands for both fences, as in the request gate: an owner whose store came before it is seen as active and waited for;
/// one whose store came after it sees the visitor and steps back. A visitor that is the owner itself needs none: another thread becomes the owner under
/// <c>_ownership</c>, and whoever looks at the owner under it knows what comes before and after. The owner's active stretches never sleep: before anything that may sleep it
/// leaves (<see cref="Leave"/>), so a visitor waits a bounded time, and an owner that is idle, blocked or itself the visitor is not waited for at all.
/// An owner that stepped back is let in before the next visit: a thread that drains visits again and again, and would otherwise be back before the owner,
/// who has to be woken, has looked.
/// </remarks>
public sealed class IoContext : IDisposable
{
    private readonly WaitQueue _handOver = new();
    private readonly SleepingMutex _visitors;
    private readonly List<IPollable> _pollables = [];
    private readonly Lock _ownership = new();
    private readonly long _number = SchedulePoint.NewObject();
    private int _active;
    private long _answered;
    private long _reaps;
    private volatile bool _visiting;
    private volatile bool _ownersTurn;
    private NoSleepState? _owner;

    /// <summary>Creates a context with the lowest free slot.</summary>
    /// <param name="name">A name for messages, for example the ring's.</param>
    public IoContext(string name)
    {
        Name = name;
        _visitors = new SleepingMutex($"visit of context {name}");
        Slot = ContextTable.Add(this);
    }

    /// <summary>A name for messages.</summary>
    public string Name { get; }

    /// <summary>The context's slot in request gates, from 0.</summary>
    public int Slot { get; }

    /// <summary>Counts of this context; written by its current owner only.</summary>
    public IoCounters Counters { get; } = new();

    /// <summary>Milliseconds since some fixed moment, as of the last batch: the age of requests is counted from it without asking the clock per request.</summary>
    public long Now { get; private set; } = Environment.TickCount64;

    /// <summary>True while the owner is inside a batch.</summary>
    public bool IsActive => Volatile.Read(ref _active) != 0;

    /// <summary>How often the owner has looked at its queues. Who sees it advance need not visit: the owner reaps by itself.</summary>
    internal long Reaps => Volatile.Read(ref _reaps);

    /// <summary>The owner looks at its queues.</summary>
    internal void CountReap() => Volatile.Write(ref _reaps, _reaps + 1);

    /// <summary>Begins a batch of the owner. Plain store, plain load; sleeps only when a visitor is working the context.</summary>
    /// <exception cref="InvalidOperationException">Another thread is inside: a context is used by one thread at a time.</exception>
    [Diagnostics.HotPath]
    public void Enter()
    {
        TellTime();
        EnterToReap();
    }

    /// <summary>Begins a batch that starts no requests, and needs no clock for them.</summary>
    [Diagnostics.HotPath]
    internal void EnterToReap()
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Ownership, _number);
        if (_active != 0)
            throw new InvalidOperationException($"Context {Name} is in use by another thread or from within its own callbacks; a ring is used by one thread at a time.");
        Volatile.Write(ref _active, 1);
        NoSleepState state = NoSleepContext.Current;
        if (!ReferenceEquals(_owner, state))
            TakeOver(state);
        Answer();
        if (_visiting)
            EnterSlow();
        state.Depth++;
    }

    /// <summary>
    /// Begins a batch unless a visitor is working the context: for an owner that is called from somebody else's batch, where it may not sleep.
    /// </summary>
    /// <returns>True when the batch has begun; end it by <see cref="Leave"/>. False: nothing was begun, try again later.</returns>
    /// <exception cref="InvalidOperationException">Another thread is inside.</exception>
    public bool TryEnter()
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Ownership, _number);
        if (_active != 0)
            throw new InvalidOperationException($"Context {Name} is in use by another thread or from within its own callbacks.");
        TellTime();
        Volatile.Write(ref _active, 1);
        NoSleepState state = NoSleepContext.Current;
        if (!ReferenceEquals(_owner, state))
            TakeOver(state);
        Answer();
        if (_visiting)
        {
            // As in EnterSlow, without the wait.
            Volatile.Write(ref _active, 0);
            _handOver.WakeAll();
            return false;
        }

        state.Depth++;
        return true;
    }

    /// <summary>Asks the clock (<see cref="Now"/>): once per batch that starts requests.</summary>
    [Diagnostics.HotPath]
    internal void TellTime() => Now = Environment.TickCount64;

    /// <summary>
    /// True when what the caller has stored before it asked is ordered against everything that happens in this context: the owner has answered, or is the caller, and
    /// nobody visits.
    /// </summary>
    /// <param name="question">From <see cref="ContextFence.Ask"/>.</param>
    internal bool IsOrdered(long question) =>
        (Volatile.Read(ref _answered) >= question || IsOwnedByCaller()) && !IsVisitedByOthers();

    /// <summary>True when nobody else is inside or can enter without taking <c>_ownership</c> first, which orders it after the caller's stores.</summary>
    internal bool IsOwnedByCaller()
    {
        lock (_ownership)
            return _owner is null || ReferenceEquals(_owner, NoSleepContext.Current);
    }

    // Taken for a moment: earlier visits are over and seen, and later ones come after the caller's stores.
    private bool IsVisitedByOthers()
    {
        if (_visitors.IsHeldByCurrentThread)
            return false;
        if (!_visitors.TryLock())
            return true;
        _visitors.Unlock();
        return false;
    }

    // The store is a release: who reads the answer sees all stores before it. The read in Question is an acquire: all loads after it see what was stored
    // before the question.
    private void Answer()
    {
        long question = ContextFence.Question;
        if (question != _answered)
            Volatile.Write(ref _answered, question);
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void TakeOver(NoSleepState state)
    {
        lock (_ownership)
            _owner = state;
    }

    /// <summary>Ends a batch of the owner, or interrupts it before something that may sleep.</summary>
    [Diagnostics.HotPath]
    public void Leave()
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Ownership, _number);
        _owner!.Depth--; // the same thread has entered
        Volatile.Write(ref _active, 0);

        // The store above and this load may pass each other; the visitor's barrier comes before it looks, so one of the two sees the other.
        if (_visiting)
            _handOver.WakeAll();
    }

    /// <summary>Makes the queues of an object reachable for visitors.</summary>
    /// <param name="pollable">Polled by visitors until removed.</param>
    public void AddPollable(IPollable pollable)
    {
        lock (_pollables)
            _pollables.Add(pollable);
    }

    /// <summary>Ends <see cref="AddPollable"/>.</summary>
    /// <param name="pollable">The object.</param>
    public void RemovePollable(IPollable pollable)
    {
        lock (_pollables)
            _pollables.Remove(pollable);
    }

    /// <summary>
    /// Borrows the context: waits for its owner's batch to end, keeps the owner out, and runs <paramref name="work"/> in its place. Not from
    /// the owner's own batch. The work may not sleep.
    /// </summary>
    /// <param name="work">What to do as the owner: reap, cancel.</param>
    /// <exception cref="DmaBufIoException">Called where the thread may not sleep (T15).</exception>
    public void Visit(Action work)
    {
        NoSleepContext.AssertMaySleep($"visit of context {Name}");
        if (_visitors.Lock() != Errno.Ok)
            throw new DmaBufIoException(Errno.EDEADLK, "Io", Name, "the thread visits this context already", "Do not drain from within a visit", rule: "T14");

        // An owner who waits for its turn waits for nothing but the end of a visit: this is as long as it takes to wake it.
        if (_ownersTurn)
            _handOver.Wait(() => !_ownersTurn, new WaitReason($"turn of context {Name}'s owner"));
        _visiting = true;
        CompleteVisit(hasBarrier: false, work);
    }

    /// <summary>
    /// First half of a visit that shares its barrier with something else: keeps the owner out from its next batch on. The caller's barrier follows, then
    /// <see cref="ReapAnnounced"/> in any case.
    /// </summary>
    /// <returns>False when somebody visits the context already: nothing was begun.</returns>
    internal bool TryAnnounceVisit()
    {
        if (!_visitors.TryLock())
            return false;
        _visiting = true;
        return true;
    }

    /// <summary>Second half of an announced visit, after the barrier: reaps, and lets the owner in again.</summary>
    internal void ReapAnnounced() => CompleteVisit(hasBarrier: true, PollAll);

    private void CompleteVisit(bool hasBarrier, Action work)
    {
        try
        {
            if (!hasBarrier && !IsOwnedByCaller())
                RequestGate.Barrier();
            _handOver.Wait(() => Volatile.Read(ref _active) == 0, new WaitReason($"batch of context {Name}", () => $"owner {(_owner is { } o ? Parker.NameOf(o.Thread) : "unknown")}"));
            NoSleepState state = NoSleepContext.Current;
            state.Depth++;
            try
            {
                Now = Environment.TickCount64; // the owner's last batch may be long ago
                work();
            }
            finally
            {
                state.Depth--;
            }
        }
        finally
        {
            _visiting = false;
            _handOver.WakeAll();
            _visitors.Unlock();
        }
    }

    /// <summary>Visits the context and reaps its queues, so that references held by completed requests are dropped (T14).</summary>
    public void ReapAsVisitor() => Visit(PollAll);

    /// <summary>Gives the slot back. The owner has drained its requests.</summary>
    public void Dispose() => ContextTable.Remove(this);

    private void PollAll()
    {
        for (int i = 0; ; i++)
        {
            IPollable pollable;
            lock (_pollables)
            {
                if (i >= _pollables.Count)
                    return;
                pollable = _pollables[i];
            }

            pollable.PollAsVisitor();
        }
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void EnterSlow()
    {
        while (_visiting)
        {
            _ownersTurn = true;
            Volatile.Write(ref _active, 0);
            _handOver.WakeAll();
            _handOver.Wait(() => !_visiting, new WaitReason($"visitor of context {Name}"));
            Volatile.Write(ref _active, 1);

            // Store, then load, against a visitor that may have begun meanwhile: its barrier or this answer orders the two, as in Enter.
            Answer();
        }

        _ownersTurn = false;
        _handOver.WakeAll();
    }
}

/// <summary>Queues that a visitor of a context may reap.</summary>
public interface IPollable
{
    /// <summary>Reaps completions and drops the references of finished requests; leaves them to be collected by the owner. Does not sleep, runs no application code.</summary>
    void PollAsVisitor();
}
