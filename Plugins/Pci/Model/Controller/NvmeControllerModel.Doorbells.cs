namespace DmaBufIo.Pci.Model;

/// <summary>
/// Doorbells and waking.
/// <para>
/// The protocol between the host's threads and the controller's thread. The host stores the doorbell (release: its queue entries are
/// visible before it), then loads <c>_sleeping</c>, and wakes the thread only if it is set. The thread, before it sleeps, stores
/// <c>_sleeping = 1</c>, then executes <see cref="Interlocked.MemoryBarrierProcessWide"/>, then looks at all doorbells once more, and
/// sleeps on an event only if there is nothing.
/// </para>
/// <para>
/// Nothing orders the host's store before its load, and nothing needs to: the barrier orders both for every thread of the process. A
/// host thread either stored before it, and the thread's second look finds the doorbell, or loads after it, and finds 1. In no case is
/// the doorbell missed and the wake left out. So ringing costs two plain moves, and the side that is idle anyway pays.
/// </para>
/// <para>
/// The event is an auto-reset one and <c>_sleeping</c> is taken by an exchange, so many ringers wake once; a wake too many costs one
/// empty round.
/// </para>
/// </summary>
public sealed partial class NvmeControllerModel
{
    /// <summary>One cache line per queue pair: 16 dwords, of which 0 is the submission tail and 1 the completion head.</summary>
    private const int DoorbellStride = 16;

    private const int EventInvalidRegister = 1;
    private const int EventInvalidValue = 2;
    private const int EventTemperature = 4;
    private readonly uint[] _doorbells;
    private readonly AutoResetEvent _wake = new(initialState: false);
    private int _sleeping;
    private int _reportedEvents;

    private void RingDoorbell(int index, uint value)
    {
        int queue = index >> 1;
        bool completion = (index & 1) != 0;
        if (!Exists(queue, completion))
        {
            ReportDoorbell(queue, completion, "a doorbell of a queue that does not exist was written", EventInvalidRegister);
            return;
        }

        Volatile.Write(ref DoorbellOf(queue, completion), value);
        WakeIfSleeping();
    }

    private bool Exists(int queue, bool completion)
    {
        if (queue >= _submissionQueues.Length)
            return false;
        return completion
            ? Volatile.Read(ref _completionQueues[queue]) is not null
            : Volatile.Read(ref _submissionQueues[queue]) is not null;
    }

    private ref uint DoorbellOf(int queue, bool completion) => ref _doorbells[queue * DoorbellStride + (completion ? 1 : 0)];

    private uint Doorbell(int queue, bool completion) => Volatile.Read(ref DoorbellOf(queue, completion));

    private void ClearDoorbell(int queue, bool completion) => Volatile.Write(ref DoorbellOf(queue, completion), 0);

    private void ReportDoorbell(int queue, bool completion, string problem, int asyncEvent)
    {
        RecordHostViolation("doorbell", queue, (ulong)(DoorbellBase + queue * 8 + (completion ? 4 : 0)), problem);
        Interlocked.Or(ref _reportedEvents, asyncEvent);
        WakeIfSleeping();
    }

    private void WakeIfSleeping()
    {
        if (Volatile.Read(ref _sleeping) != 0 && Interlocked.Exchange(ref _sleeping, 0) != 0)
            _wake.Set();
    }
}
