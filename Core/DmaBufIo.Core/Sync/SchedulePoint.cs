namespace DmaBufIo.Sync;

/// <summary>
/// The seam between the primitives of Sync and an explorer of interleavings. Every primitive declares what it is about to do
/// before it does it; an explorer decides who goes on.
/// </summary>
/// <remarks>
/// <see cref="Enabled"/> is a static readonly bool read from the AppContext switch <c>DmaBufIo.Exploration</c>: when the switch is off,
/// the JIT removes the calls.
/// </remarks>
public static class SchedulePoint
{
    /// <summary>True when the process runs under a controlled scheduler.</summary>
    public static readonly bool Enabled = AppContext.TryGetSwitch("DmaBufIo.Exploration", out bool on) && on;

    private static IScheduler? s_scheduler;
    private static long s_lastObject;

    /// <summary>Installs the scheduler; null removes it. Only meaningful when <see cref="Enabled"/>.</summary>
    /// <param name="scheduler">Decides which actor goes on.</param>
    public static void Install(IScheduler? scheduler) => Volatile.Write(ref s_scheduler, scheduler);

    /// <summary>The number of a new object, in order of creation: deterministic under a controlled scheduler.</summary>
    internal static long NewObject() => Enabled ? Interlocked.Increment(ref s_lastObject) : 0;

    /// <summary>Declares a step of the current thread, before it acts.</summary>
    /// <param name="kind">What it is about to do.</param>
    /// <param name="target">The object's number from its creation.</param>
    /// <param name="writes">True when others can observe the step.</param>
    internal static void Reach(StepKind kind, long target, bool writes = true) =>
        Volatile.Read(ref s_scheduler)?.Reach(new ScheduleStep(kind, target, writes));

    /// <summary>The scheduler that controls the process, or null.</summary>
    internal static IScheduler? Current => Volatile.Read(ref s_scheduler);
}

/// <summary>What a thread is about to do at a schedule point.</summary>
public enum StepKind
{
    /// <summary>Take a lock.</summary>
    Lock,

    /// <summary>Give a lock back.</summary>
    Unlock,

    /// <summary>Wait until a condition holds.</summary>
    Wait,

    /// <summary>Wake the waiters of a condition.</summary>
    Wake,

    /// <summary>Take a reference through a request gate.</summary>
    GateEnter,

    /// <summary>Drop a reference through a request gate.</summary>
    GateExit,

    /// <summary>Kill a request gate.</summary>
    GateKill,

    /// <summary>The process-wide barrier.</summary>
    Barrier,

    /// <summary>Publish or unpublish a shared reference.</summary>
    Publish,

    /// <summary>Queue work for another thread.</summary>
    QueueWork,

    /// <summary>Take a context's ownership or give it back.</summary>
    Ownership,

    /// <summary>The start or the end of a device's DMA.</summary>
    Dma,
}

/// <summary>A declared step.</summary>
/// <param name="Kind">What is about to be done.</param>
/// <param name="Target">To which object: its creation number.</param>
/// <param name="Writes">True when others can observe it.</param>
public readonly record struct ScheduleStep(StepKind Kind, long Target, bool Writes);

/// <summary>A controlled scheduler: lets one thread run at a time and decides at every step which.</summary>
public interface IScheduler
{
    /// <summary>The calling thread is about to act; returns when it may.</summary>
    /// <param name="step">What it is about to do.</param>
    void Reach(in ScheduleStep step);

    /// <summary>The calling thread waits for a permit; returns when the scheduler lets it go on with one, or because it was cancelled.</summary>
    /// <param name="step">The wait.</param>
    /// <param name="hasPermit">Free of side effects: true when the thread can go on.</param>
    /// <param name="mayTimeOut">True when the wait ends by itself after a while: the scheduler may let it go on without a permit.</param>
    void Park(in ScheduleStep step, Func<bool> hasPermit, bool mayTimeOut);
}
