using System.Diagnostics;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.Io;

/// <summary>
/// Waits for a killed gate to drain, and makes it drain: completions may sit in queues that only their ring's owner reaps, and that owner may be
/// idle, blocked, or the very thread that waits here (T14).
/// </summary>
public static class GateDrain
{
    // Time enough for a polling owner to come by, most of the time: preparing and submitting a hundred requests takes it some microseconds.
    private static readonly long s_glance = Stopwatch.Frequency / 1_000_000 * 6;

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
    /// Announces visits to the contexts whose requests are in gates that are about to be drained and whose owners do not come by themselves, so that the kill's
    /// barrier serves the visits too. Waits for nobody but a moment, to see who comes.
    /// </summary>
    /// <param name="gates">Gates whose kill has begun; the barrier follows.</param>
    /// <returns>The contexts to be reaped after the barrier (<see cref="ReapAnnounced"/>), in any case.</returns>
    internal static List<IoContext> Announce(List<RequestGate> gates)
    {
        var announced = new List<IoContext>();
        if (SchedulePoint.Enabled)
            return announced; // who comes by in a moment is a question of time, and an explorer has none
        List<(IoContext Context, long Reaps)> users = [];
        foreach (IoContext context in ContextTable.Living())
        {
            if (!gates.Exists(g => g.UsersIn(context.Slot) != 0))
                continue;
            if (!context.IsOwnedByCaller())
                users.Add((context, context.Reaps));
            else if (context.TryAnnounceVisit())
                announced.Add(context); // the caller waits here, so it does not come by
        }

        if (users.Count == 0)
            return announced;
        long begun = Stopwatch.GetTimestamp();
        while (users.Exists(static u => u.Context.Reaps == u.Reaps) && Stopwatch.GetTimestamp() - begun < s_glance)
            Thread.SpinWait(8);
        foreach ((IoContext context, long reaps) in users)
        {
            if (context.Reaps == reaps && !context.IsActive && context.TryAnnounceVisit())
                announced.Add(context);
        }

        return announced;
    }

    /// <summary>Reaps the contexts that were announced to; the barrier has come between.</summary>
    /// <param name="announced">From <see cref="Announce"/>.</param>
    internal static void ReapAnnounced(List<IoContext> announced)
    {
        foreach (IoContext context in announced)
        {
            try
            {
                context.ReapAnnounced();
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                // The other contexts are still kept from their owners.
                DmaBufIoDiagnostics.Report(new DriverFault($"reaping of context {context.Name}", e));
            }
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
