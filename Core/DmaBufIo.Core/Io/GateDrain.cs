using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.Io;

/// <summary>
/// Waits for a killed gate to drain, and makes it drain: completions may sit in queues that only their ring's owner reaps, and that owner may be
/// idle, blocked, or the very thread that waits here (T14).
/// </summary>
public static class GateDrain
{
    /// <summary>Waits until the gate has drained, reaping the queues of every context that still has requests in it.</summary>
    /// <param name="gate">A gate whose kill has begun.</param>
    /// <param name="reason">What is waited for, for snapshots.</param>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns><c>Ok</c>, or <c>EINTR</c> when cancelled.</returns>
    /// <exception cref="DmaBufIoException">The thread may not sleep here (T15).</exception>
    public static Errno Drain(RequestGate gate, in WaitReason reason, CancellationToken cancellationToken = default)
    {
        NoSleepContext.AssertMaySleep(reason.What);
        var wait = new PollingWait(reason);
        while (true)
        {
            Advance(gate);
            Errno status = gate.WaitDrained(ref wait, cancellationToken);
            if (status != Errno.EAGAIN)
                return status;
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
