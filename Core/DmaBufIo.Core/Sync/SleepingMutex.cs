using DmaBufIo.Errors;

namespace DmaBufIo.Sync;

/// <summary>A plain mutual exclusion lock that a thread may hold across waits (creators of maps, visitors of contexts).</summary>
public sealed class SleepingMutex
{
    private readonly WaitQueue _queue = new();
    private readonly string _name;
    private readonly long _number = SchedulePoint.NewObject();
    private Parker? _holder;

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
        while (Interlocked.CompareExchange(ref _holder, me, null) is { } holder)
        {
            if (ReferenceEquals(holder, me))
                return Errno.EDEADLK;
            var reason = new WaitReason(_name, () => $"held by {Volatile.Read(ref _holder)?.ThreadName ?? "nobody"}");
            Errno status = _queue.Wait(() => Volatile.Read(ref _holder) is null, reason, cancellationToken);
            if (status != Errno.Ok)
                return status;
        }

        return Errno.Ok;
    }

    /// <summary>Takes the mutex if it is free; never waits.</summary>
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
