using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.Io;

/// <summary>
/// Waits for a killed gate to drain, and makes it drain: completions may sit in queues that only their ring's owner reaps, and that owner may be
/// idle, blocked, or the very thread that waits here (T14).
/// </summary>
public static class GateDrain
{
    private const int EagerRounds = 64; // about as long as a device needs for what it has begun; then the waiter stops burning its core

    /// <summary>Waits until the gate has drained, reaping the queues of every context that still has requests in it.</summary>
    /// <param name="gate">A gate whose kill has begun.</param>
    /// <param name="reason">What is waited for, for snapshots.</param>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns><c>Ok</c>, or <c>EINTR</c> when cancelled.</returns>
    /// <exception cref="DmaBufIoException">The thread may not sleep here (T15).</exception>
    public static Errno Drain(RequestGate gate, in WaitReason reason, CancellationToken cancellationToken = default)
    {
        NoSleepContext.AssertMaySleep(reason.What);
        WaitReason slices = reason with { Episode = new WaitEpisode() };
        for (int round = 0; !gate.IsDrained; round++)
        {
            if (cancellationToken.IsCancellationRequested)
                return Errno.EINTR;
            Reap(gate);
            if (gate.IsDrained)
                break;
            if (round < EagerRounds && !SchedulePoint.Enabled)
                Thread.Yield();
            else
                gate.WaitDrained(slices, cancellationToken, slice: TimeSpan.FromMilliseconds(1));
        }

        return Errno.Ok;
    }

    /// <summary>Reaps, once, the queues of every context that has requests in a gate. For waits that end with its drain by other means: a fence (T14).</summary>
    /// <param name="gate">A gate whose kill has begun.</param>
    /// <exception cref="DmaBufIoException">The thread may not sleep here (T15).</exception>
    public static void Reap(RequestGate gate)
    {
        foreach (IoContext context in ContextTable.Living())
        {
            if (gate.UsersIn(context.Slot) != 0)
                context.ReapAsVisitor();
        }
    }
}
