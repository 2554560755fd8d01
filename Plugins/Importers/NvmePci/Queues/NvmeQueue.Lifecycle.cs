using DmaBufIo.Block;
using DmaBufIo.Errors;

namespace DmaBufIo.Importers.NvmePci.Queues;

/// <content>Health, reset, removal. Members that a controller calls act as the context's owner: it calls them from a visit.</content>
internal sealed partial class NvmeQueue
{
    // Some tens of microseconds of polling: far more than a device needs for what it has begun, far less than any timeout.
    private const int EmptyPollsPerLook = 1024;

    // A register read may cost as much as a request (vfio-user: a message each), so it is not done more often than this.
    private const long MillisecondsPerCheck = 100;

    /// <summary>Commands that the controller has not answered.</summary>
    internal int InFlight => _tags.InFlight;

    /// <summary>Stops taking and polling. Commands in flight stay as they are.</summary>
    internal void Freeze()
    {
        if (_state == QueueState.Live)
            _state = QueueState.Frozen;
    }

    /// <summary>The controller knows the queue: work may begin.</summary>
    internal void Thaw() => _state = QueueState.Live;

    /// <summary>The device is gone: the memory of the queue is not touched any more.</summary>
    internal void MarkDead() => _state = QueueState.Dead;

    /// <summary>
    /// Ends every command in flight, exactly once (N8): those that the controller had answered before it stopped with that answer, the
    /// others with
    /// <paramref name="status"/>. The queue is frozen, and the controller does no DMA any more.
    /// </summary>
    internal void Cancel(Errno status)
    {
        for (int i = 0; i < Entries; i++)
        {
            uint last = Volatile.Read(ref _completion[_head].Dword3);
            if (((last >> 16) & 1) != _phase)
                break;
            MoveHead();
            Complete(last);
        }

        for (int tag = 0; tag < _tags.Count; tag++)
        {
            if (_tags.IsInFlight(tag))
                Finish(tag, status);
        }
    }

    /// <summary>Brings the queue's memory into the state in which a controller expects a new queue.</summary>
    internal void Rewind()
    {
        _submission.Clear();
        _completion.Clear();
        _tail = 0;
        _rungTail = 0;
        _head = 0;
        _phase = 1;
    }

    /// <summary>Frees the memory. The controller does not know the queue any more, and the queue is dead or nobody's; controller's
    /// lock.</summary>
    internal void FreeMemory() => _memory.Dispose();

    /// <inheritdoc/>
    public override bool TryEnableInterrupts(Action handler) => _controller.TryEnableInterrupts(this, handler);

    /// <inheritdoc/>
    public override void Dispose() => _controller.CloseQueue(this);

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private bool SubmitStopped(BioHandle bio)
    {
        // During a reset there is no room, as with a full queue: the caller gives its map reference up and comes again (T16).
        if (_state == QueueState.Frozen)
            return false;
        _bios.End(bio, Errno.ENODEV);
        return true;
    }

    private void CountEmptyPoll()
    {
        // An owner that sleeps looks once per interrupt, or once per health check: then each empty look counts.
        if (++_emptyPolls < EmptyPollsPerLook && Vector == 0)
            return;
        _emptyPolls = 0;

        // Not the context's own clock: that one stands still while the owner waits and visitors poll in its place.
        long now = Environment.TickCount64;
        if (now - _checkedAt < MillisecondsPerCheck)
            return;
        _checkedAt = now;
        CheckHealth(now);
    }

    /// <summary>Commands are in flight and nothing has come for a while: looks whether the device is still there, has failed, or has lost
    /// a command.</summary>
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void CheckHealth(long now)
    {
        bool late = _tags.OldestAge((uint)now) >= (uint)_controller.TimeoutMilliseconds;
        if (late || _controller.Registers.IsGone || _controller.Registers.IsFatal)
            _controller.RequestRecovery();
    }
}
