using System.Diagnostics;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;

namespace DmaBufIo.Sync;

/// <summary>
/// A wait of a thread that drives others' queues while it waits: it looks, pauses, looks again. At first it does not pause at all, for devices are quick; then it stops
/// burning its core. To reports and snapshots the whole is one wait.
/// </summary>
internal struct PollingWait(WaitReason reason)
{
    private const int EagerRounds = 64;
    private readonly long _since = Stopwatch.GetTimestamp();
    private int _rounds;
    private bool _reported;

    /// <summary>Waits a little for the condition.</summary>
    /// <param name="queue">Announces the condition.</param>
    /// <param name="condition">Free of side effects.</param>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <param name="context">When given, the wait also ends when this acquire context is wounded.</param>
    /// <returns>As <see cref="WaitQueue.Wait"/>; <c>EAGAIN</c> when it is time to look again.</returns>
    internal Errno Pause(WaitQueue queue, Func<bool> condition, CancellationToken cancellationToken, AcquireContext? context = null)
    {
        TimeSpan slice = TimeSpan.FromMilliseconds(1);
        if (_rounds < EagerRounds && !SchedulePoint.Enabled)
        {
            _rounds++;
            slice = TimeSpan.Zero;
            Thread.Yield();
        }

        if (!_reported && Stopwatch.GetElapsedTime(_since) >= DmaBufIoDiagnostics.WaitThreshold)
        {
            _reported = true;
            DmaBufIoDiagnostics.Report(new LongWait(Parker.Current.ThreadName, reason.Describe(), Stopwatch.GetElapsedTime(_since)));
        }

        return queue.Wait(condition, reason with { Since = _since }, cancellationToken, context, slice);
    }
}
