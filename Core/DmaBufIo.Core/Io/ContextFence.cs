using System.Diagnostics;
using System.Runtime.InteropServices;
using DmaBufIo.Sync;

namespace DmaBufIo.Io;

/// <summary>
/// Orders what a killer has stored against every context, as the process-wide barrier does (<see cref="RequestGate"/>), but without interrupting processors
/// that answer by themselves: the barrier costs what the machine takes to interrupt them, up to tens of microseconds in a virtual machine.
/// </summary>
/// <remarks>
/// Protocol. Message passing both ways, with acquire and release alone.
/// <code>
///   killer:  store killed                   owner, at the beginning of each batch:
///            question++ (full fence)                read question
///            read answered until >= question        answered = question
/// </code>
/// An answer stands at a point of its owner's program: all the owner has stored before it is seen by the killer that reads it, and all the owner loads after it
/// sees what was stored before the question. That is all that a pair of a store and a load on each side (count and killed, active and visiting) needs.
/// A context answers for its owner. One that is the killer's own needs no answer: nobody else may enter it without taking its ownership, under a lock
/// (<see cref="IoContext"/>). A visitor that works a context meanwhile answers for nobody: then, and when an owner does not come by soon, the barrier is what is left.
/// Contexts beyond a gate's slots count with interlocked instructions, whose fence pairs with that of the question.
/// </remarks>
internal static class ContextFence
{
    // A polling owner begins a batch every few microseconds. Nothing depends on it but who pays.
    private static readonly long s_patience = Stopwatch.Frequency / 1_000_000 * 10;

    private static Padded s_question;

    /// <summary>The last question. Read by owners once per batch; on a cache line of its own, for it seldom changes.</summary>
    internal static long Question => Volatile.Read(ref s_question.Value);

    /// <summary>Asks all contexts; what the caller has stored before is ordered before the question.</summary>
    /// <returns>What <see cref="Await"/> needs.</returns>
    internal static long Ask() => Interlocked.Increment(ref s_question.Value);

    /// <summary>Waits a moment for the answers of all living contexts, and pays the barrier when one is missing.</summary>
    /// <param name="question">From <see cref="Ask"/>.</param>
    /// <param name="visits">True when the caller has announced visits after the question to contexts that are not its own: an answer does not cover them.</param>
    internal static void Await(long question, bool visits = false)
    {
        // An explorer has no time in which somebody could come by.
        if (visits || SchedulePoint.Enabled || !AllAnswer(question))
            RequestGate.Barrier();
    }

    private static bool AllAnswer(long question)
    {
        long begun = Stopwatch.GetTimestamp();
        foreach (IoContext context in ContextTable.Living())
        {
            while (!context.IsOrdered(question))
            {
                if (Environment.ProcessorCount == 1 || Stopwatch.GetTimestamp() - begun > s_patience)
                    return false;
                Thread.SpinWait(8);
            }
        }

        return true;
    }

    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct Padded
    {
        [FieldOffset(128)]
        public long Value;
    }
}
