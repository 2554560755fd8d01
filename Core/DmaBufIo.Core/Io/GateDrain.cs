using System.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.Io;

/// <summary>
/// Waits for a killed gate to drain, and makes it drain: completions may sit in queues that only their ring's owner reaps, and that owner may be
/// idle, blocked, or the very thread that waits here (T14).
/// </summary>
public static class GateDrain
{
    // A polling owner comes by every microsecond or so; one that has not come for a few will not come soon.
    private static readonly long s_patience = Stopwatch.Frequency / 1_000_000 * 4;

    // Longer than devices take; shorter than anybody notices when an owner polls and its device is stuck.
    private static readonly long s_limit = Stopwatch.Frequency / 1_000_000 * 200;

    /// <summary>Waits until the gate has drained, reaping the queues of every context that still has requests in it.</summary>
    /// <param name="gate">A gate whose kill has begun.</param>
    /// <param name="reason">What is waited for, for snapshots.</param>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns><c>Ok</c>, or <c>EINTR</c> when cancelled.</returns>
    /// <exception cref="DmaBufIoException">The thread may not sleep here (T15).</exception>
    public static Errno Drain(RequestGate gate, in WaitReason reason, CancellationToken cancellationToken = default)
    {
        NoSleepContext.AssertMaySleep(reason.What);
        LetOwnersReap(gate);
        var wait = new PollingWait(reason);
        while (true)
        {
            Advance(gate);
            Errno status = gate.WaitDrained(ref wait, cancellationToken);
            if (status != Errno.EAGAIN)
                return status;
        }
    }

    /// <summary>
    /// A visit costs a process-wide barrier and stops the owner. An owner that looks at its queues all the time drains the gate sooner by itself, so it is left
    /// alone as long as it does. Nothing depends on it: whoever is not drained then is visited.
    /// </summary>
    private static void LetOwnersReap(RequestGate gate)
    {
        if (SchedulePoint.Enabled || Environment.ProcessorCount == 1)
            return;
        long begun = Stopwatch.GetTimestamp();
        foreach (IoContext context in ContextTable.Living())
        {
            long seen = context.Reaps;
            long since = Stopwatch.GetTimestamp();
            while (gate.UsersIn(context.Slot) != 0)
            {
                Thread.SpinWait(8);
                long now = Stopwatch.GetTimestamp();
                if (context.Reaps is var reaps && reaps != seen)
                    (seen, since) = (reaps, now);
                else if (now - since > s_patience)
                    break; // idle, blocked, or the caller itself
                if (now - begun > s_limit)
                    return;
            }
        }
    }

    /// <summary>Reaps the queues of every context that has requests in the gate, once.</summary>
    /// <param name="gate">A gate whose kill has begun.</param>
    /// <exception cref="DmaBufIoException">The thread may not sleep here (T15).</exception>
    public static void Advance(RequestGate gate)
    {
        foreach (IoContext context in ContextTable.Living())
        {
            if (gate.UsersIn(context.Slot) != 0)
                context.ReapAsVisitor();
        }
    }
}
