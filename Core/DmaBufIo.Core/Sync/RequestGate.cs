using System.Diagnostics;
using DmaBufIo.Errors;

namespace DmaBufIo.Sync;

/// <summary>
/// Counts the requests that use a map, and can be killed (the kernel's percpu_ref; T6, T7). Asymmetric: entering and leaving are a plain
/// store and a plain load each, the killer pays for the ordering with a process-wide barrier.
/// </summary>
/// <remarks>
/// Protocol. Each context has a slot of its own in <see cref="_counts"/>, on a cache line of its own; a slot is written by the context's current
/// owner only, and a reference is dropped in the slot it was taken in, so every slot is at least 0 at all times.
/// <code>
///   enter:  count[slot]++                 kill:  killed = true
///           read killed                          process-wide barrier
///             true: count[slot]--, fail           settled = true; sum the counts
/// </code>
/// The barrier makes every other thread fence once between its store and its load. A thread whose store came before it is seen by the sum; one
/// whose store came after it reads killed = true and backs out. So after the barrier no slot gains a lasting reference, and a slot seen at 0 stays
/// at 0 but for a transient of a failing enter, which can only delay the drain. Leaving is a store and a load of killed in the same way: whoever
/// reads killed = true goes on to <see cref="Settle"/>, a full fence and a sum, and so does the killer: of any two, the one whose fence comes second sees what
/// the other has stored, so the last of them finds 0. Before the barrier a sum proves nothing, hence <see cref="_settled"/>. Several may find 0; one of
/// them announces it. Nobody takes a lock: the owner of a busy context leaves a killed gate many times while the killer waits for it.
/// What stands for the barrier may also be an answer of each context (<c>Io/ContextFence.cs</c>).
/// The JIT keeps the order of two volatile accesses; the processor's store-load reordering is what the process-wide barrier is for.
/// The counts are managed memory: a reader that raced with the kill may still touch them long after the gate has drained (T9).
/// </remarks>
public sealed class RequestGate
{
    private const int Stride = 16; // 16 longs = 128 bytes: one cache line and its prefetched neighbour

    private readonly long[] _counts;
    private readonly WaitQueue _drainWaiters = new();
    private readonly Action _onDrained;
    private readonly long _number = SchedulePoint.NewObject();
    private long _overflow;
    private volatile bool _killed;
    private int _drained;
    private bool _settled;
    private long _killedAt;

    /// <summary>Creates a live gate with no users.</summary>
    /// <param name="slots">Contexts that get a slot of their own; contexts with a higher number share a slower, interlocked count.</param>
    /// <param name="onDrained">Called exactly once, when the gate is killed and the last user has left; on the killer's thread or on the thread that left, which may not sleep.</param>
    public RequestGate(int slots, Action onDrained)
    {
        _counts = new long[(slots + 1) * Stride];
        _onDrained = onDrained;
    }

    /// <summary>True once the gate was killed: nobody enters any more.</summary>
    public bool IsKilled => _killed;

    /// <summary>True once it was killed and the last user has left.</summary>
    public bool IsDrained => Volatile.Read(ref _drained) != 0;

    /// <summary>When it was killed (Stopwatch ticks), 0 while it is live.</summary>
    public long KilledAt => Volatile.Read(ref _killedAt);

    /// <summary>Requests that were seen inside when the kill began: at least some of those that it hit. 0 while the gate is live.</summary>
    public long UsersAtKill { get; private set; }

    /// <summary>Requests inside. Exact only after <see cref="FinishKill"/>, or when nobody enters or leaves.</summary>
    public long Users
    {
        get
        {
            long sum = Volatile.Read(ref _overflow);
            for (int i = Stride; i < _counts.Length; i += Stride)
                sum += Volatile.Read(ref _counts[i]);
            return sum;
        }
    }

    /// <summary>Requests inside that belong to one context. Slots beyond the gate's size share a count, which is answered for each of them.</summary>
    /// <param name="slot">The context's slot.</param>
    public long UsersIn(int slot)
    {
        int index = (slot + 1) * Stride;
        return index < _counts.Length ? Volatile.Read(ref _counts[index]) : Volatile.Read(ref _overflow);
    }

    /// <summary>Takes a reference. Hot path: no lock, no interlocked instruction, no allocation (T6).</summary>
    /// <param name="slot">The context's slot; the caller owns the context.</param>
    /// <param name="count">How many references, one for each request of a batch (T16).</param>
    /// <returns>False when the gate was killed (T7): then none was taken.</returns>
    [Diagnostics.HotPath]
    public bool TryEnter(int slot, int count = 1)
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.GateEnter, _number);
        int index = (slot + 1) * Stride; // the first line is left empty: the array's length lies before it
        long[] counts = _counts;
        if ((uint)index >= (uint)counts.Length)
            return TryEnterShared(count);

        // Store, then load: see the protocol above. No fence here, the killer's barrier provides it.
        Volatile.Write(ref counts[index], counts[index] + count);
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.GateEnter, _number, writes: false);
        return !_killed || BackOut(slot, count);
    }

    /// <summary>Drops a reference, in the slot in which it was taken. Hot path like <see cref="TryEnter"/>.</summary>
    /// <param name="slot">The slot given to <see cref="TryEnter"/>; the caller owns that context.</param>
    /// <param name="count">How many references.</param>
    [Diagnostics.HotPath]
    public void Exit(int slot, int count = 1)
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.GateExit, _number);
        int index = (slot + 1) * Stride;
        long[] counts = _counts;
        if ((uint)index >= (uint)counts.Length)
        {
            ExitShared(count);
            return;
        }

        Debug.Assert(counts[index] >= count, "A reference is dropped in the slot in which it was taken.");
        Volatile.Write(ref counts[index], counts[index] - count);
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.GateExit, _number, writes: false);
        if (_killed)
            Settle();
    }

    /// <summary>First half of a kill: lets nobody in any more. Must be followed by <see cref="Barrier"/>, once for any number of gates (T17), and <see cref="FinishKill"/>.</summary>
    public void BeginKill()
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.GateKill, _number);
        Volatile.Write(ref _killedAt, Stopwatch.GetTimestamp());
        _killed = true;

        // For reports only: whoever hears of the kill may leave before the barrier is through and the count is exact.
        UsersAtKill = Users;
    }

    /// <summary>The killer's barrier; one call serves all gates whose kill has begun.</summary>
    public static void Barrier()
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Barrier, 0);
        Diagnostics.Counters.Barriers.Add();
        Interlocked.MemoryBarrierProcessWide();
    }

    /// <summary>Second half of a kill: from here on the users can only become fewer, and the drain is noticed.</summary>
    /// <returns>How many requests were inside at that moment.</returns>
    public long FinishKill()
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.GateKill, _number);
        Volatile.Write(ref _settled, true);
        Interlocked.MemoryBarrier();
        long users = Users;
        if (users == 0)
            Announce();
        return users;
    }

    /// <summary>Waits a little for the gate to drain.</summary>
    /// <param name="wait">The wait that this is part of.</param>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns><c>Ok</c>, <c>EINTR</c> when cancelled, <c>EAGAIN</c> when it is time to look again.</returns>
    internal Errno WaitDrained(ref PollingWait wait, CancellationToken cancellationToken) =>
        wait.Pause(_drainWaiters, () => IsDrained, cancellationToken);

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private bool TryEnterShared(int count)
    {
        Interlocked.Add(ref _overflow, count);
        if (!_killed)
            return true;
        Interlocked.Add(ref _overflow, -count);
        Settle();
        return false;
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void ExitShared(int count)
    {
        Interlocked.Add(ref _overflow, -count);
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.GateExit, _number, writes: false);
        if (_killed)
            Settle();
    }

    private bool BackOut(int slot, int count)
    {
        Exit(slot, count);
        return false;
    }

    // Runs on whoever left a killed gate.
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void Settle()
    {
        // The leaver's store of its count comes before the fence: either the sum of whoever fences later sees it, or this one sees theirs.
        Interlocked.MemoryBarrier();
        if (Volatile.Read(ref _settled) && Users == 0)
            Announce();
    }

    private void Announce()
    {
        if (Interlocked.Exchange(ref _drained, 1) != 0)
            return;
        _onDrained();
        _drainWaiters.WakeAll();
    }
}
