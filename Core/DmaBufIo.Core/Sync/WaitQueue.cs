using System.Diagnostics;
using DmaBufIo.Errors;

namespace DmaBufIo.Sync;

/// <summary>Threads that wait until a condition holds (the kernel's wait queue).</summary>
/// <remarks>
/// Protocol: a waiter joins the queue under the queue's lock and only then tests its condition; a waker changes the state first and then
/// takes the queue's lock to wake. Whichever takes the lock second sees what the other did, so no wake-up is lost.
/// </remarks>
public sealed class WaitQueue
{
    private readonly Lock _lock = new();
    private readonly List<Parker> _waiters = [];
    private readonly long _number = SchedulePoint.NewObject();

    /// <summary>Waits until the condition holds.</summary>
    /// <param name="condition">Free of side effects; tested on the waiting thread, any number of times.</param>
    /// <param name="reason">What is waited for, for snapshots.</param>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <param name="context">When given, the wait also ends when this acquire context is wounded.</param>
    /// <param name="slice">When given, the wait also ends after this time.</param>
    /// <returns><c>Ok</c>; <c>EINTR</c> when cancelled; <c>EDEADLK</c> when wounded; <c>EAGAIN</c> when the slice has passed. The condition is tested first.</returns>
    /// <exception cref="DmaBufIoException">The thread may not sleep here (<c>EDEADLK</c>, T15).</exception>
    public Errno Wait(
        Func<bool> condition,
        in WaitReason reason,
        CancellationToken cancellationToken = default,
        AcquireContext? context = null,
        TimeSpan? slice = null)
    {
        NoSleepContext.AssertMaySleep(reason.What);
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Wait, _number, writes: false);
        if (condition())
            return Errno.Ok;

        Parker parker = Parker.Current;
        var wait = new Wait(reason);
        long started = Stopwatch.GetTimestamp();
        parker.Begin(wait);
        lock (_lock)
            _waiters.Add(parker);
        context?.BeginWait(parker);
        CancellationTokenRegistration registration = cancellationToken.UnsafeRegister(static p => ((Parker)p!).Unpark(), parker);
        try
        {
            while (true)
            {
                if (condition())
                    return Errno.Ok;
                if (cancellationToken.IsCancellationRequested)
                    return Errno.EINTR;
                if (context is { MustBackOff: true })
                    return Errno.EDEADLK;
                TimeSpan? left = slice - Stopwatch.GetElapsedTime(started);
                if (left <= TimeSpan.Zero)
                    return Errno.EAGAIN;

                // Up to whole milliseconds: less than one would not wait at all.
                parker.Park(ref wait, left is { } l ? TimeSpan.FromMilliseconds(Math.Ceiling(l.TotalMilliseconds)) : null);
            }
        }
        finally
        {
            registration.Dispose();
            context?.EndWait();
            lock (_lock)
                _waiters.Remove(parker);
            parker.End();
        }
    }

    /// <summary>Lets every waiter test its condition again. Call it after the state has changed. Allocates nothing; callable from completion context.</summary>
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    public void WakeAll()
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Wake, _number);
        lock (_lock)
        {
            foreach (Parker waiter in _waiters)
                waiter.Unpark();
        }
    }
}
