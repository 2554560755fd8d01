using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Pci.Model.Protocol;

namespace DmaBufIo.Pci.Model;

/// <summary>
/// The engine: one thread at a time, holding <c>_engine</c>, takes commands round robin, executes and completes them. Writers of control
/// registers, Reset and Kill take the same lock, so what they change, they change between two commands with no DMA under way. The lock is
/// not fair; the engine therefore steps aside while <c>_controlWaiting</c> is not 0. Interrupt handlers are called with the lock released.
/// </summary>
public sealed partial class NvmeControllerModel
{
    /// <summary>Looks without work before the thread sleeps: some 100 µs, less than a sleep and a wake cost both sides.</summary>
    private const int IdleRounds = 200;

    /// <summary>Of these, the first only pause; the others yield, because the host may need this core.</summary>
    private const int PausingRounds = 20;

    /// <summary>Rounds of one <see cref="Advance"/>: enough for a full queue, and an end while other threads go on submitting.</summary>
    private const int RoundsPerAdvance = 256;

    /// <summary>Commands fetched by one DMA.</summary>
    private const int FetchBatch = 8;

    private readonly Lock _engine = new();
    private readonly Thread? _thread;
    private readonly SubmissionQueue?[] _submissionQueues;
    private readonly CompletionQueue?[] _completionQueues;
    private readonly SubmissionQueue[] _active;
    private readonly byte[] _fetched = new byte[FetchBatch * NvmeCommand.Size];
    private readonly CompletionMover _completionMover = new();
    private int _activeCount;
    private int _activeGeneration;
    private int _nextActive;
    private int _controlWaiting;
    private volatile bool _stall;
    private volatile bool _stopping;

    /// <summary>
    /// Executes what the doorbells announced when the controller has no thread of its own; does nothing otherwise. Any thread;
    /// calls interrupt handlers.
    /// </summary>
    public override void Advance()
    {
        if (_thread is not null)
            return;
        for (int round = 0; round < RoundsPerAdvance && RunPass(); round++)
        {
        }
    }

    private void EnterControl()
    {
        Interlocked.Increment(ref _controlWaiting);
        _engine.Enter();
        Interlocked.Decrement(ref _controlWaiting);
    }

    private void RunThread()
    {
        int idle = 0;
        while (!_stopping)
        {
            if (RunPass())
            {
                idle = 0;
                continue;
            }

            if (++idle < IdleRounds)
            {
                if (idle < PausingRounds)
                    Thread.SpinWait(20);
                else
                    Thread.Yield();
                continue;
            }

            idle = 0;
            AboutToSleep?.Invoke();
            Volatile.Write(ref _sleeping, 1);
            Interlocked.MemoryBarrierProcessWide();
            if (!_stopping && !HasWork())
                _wake.WaitOne();
            Volatile.Write(ref _sleeping, 0);
        }
    }

    private bool RunPass()
    {
        while (Volatile.Read(ref _controlWaiting) != 0)
            Thread.Yield();
        bool worked;
        lock (_engine)
            worked = RunRound();
        RaiseInterrupts();
        return worked;
    }

    private bool RunRound()
    {
        if (_gone)
            return false;
        bool worked = _shutdownDue;
        if (_shutdownDue)
            CompleteShutdown();
        if (!Running)
            return worked;
        worked |= DeliverEvents();
        int generation = _activeGeneration;
        for (int turn = 0; turn < _activeCount; turn++)
        {
            if (_nextActive >= _activeCount)
                _nextActive = 0;
            worked |= ServeQueue(_active[_nextActive++]);
            if (!Running || generation != _activeGeneration || Volatile.Read(ref _controlWaiting) != 0)
                break;
        }

        CollectInterrupts();
        return worked;
    }

    private bool HasWork()
    {
        lock (_engine)
        {
            if (_gone)
                return false;
            if (_shutdownDue || (Volatile.Read(ref _pendingVectors[0]) & ~(long)(uint)Volatile.Read(ref _interruptMask)) != 0)
                return true;
            if (!Running)
                return false;
            if (CanDeliverEvents())
                return true;
            for (int i = 0; i < _activeCount; i++)
            {
                if (Ready(_active[i]) > 0)
                    return true;
            }

            return false;
        }
    }

    // Commands of the queue that can be executed now. A command is taken only when its completion has a place: the controller never
    // overruns a completion queue, the commands wait in theirs until the host has moved the head.
    private int Ready(SubmissionQueue queue)
    {
        if (!queue.TryMoveTail(Doorbell(queue.Id, completion: false)))
            ReportDoorbell(queue.Id, false, "a submission tail lies outside its queue or overtakes the head", EventInvalidValue);
        if (_stall || queue.Pending == 0)
            return 0;
        return Math.Min(queue.PendingContiguous, FreeEntries(queue.Completions));
    }

    private int FreeEntries(CompletionQueue queue)
    {
        if (!queue.TryMoveHead(Doorbell(queue.Id, completion: true)))
            ReportDoorbell(queue.Id, true, "a completion head lies outside its queue or beyond what was posted", EventInvalidValue);
        return queue.Free;
    }

    private bool ServeQueue(SubmissionQueue queue)
    {
        int count = Math.Min(Ready(queue), Math.Min(_arbitrationBurst, FetchBatch));
        if (count == 0)
            return false;
        Span<byte> entries = _fetched.AsSpan(0, count * NvmeCommand.Size);
        if (DmaRead(queue.HeadAddress, entries) != Errno.Ok)
        {
            SetFatal();
            return true;
        }

        int generation = _activeGeneration;
        for (int i = 0; i < count; i++)
        {
            queue.MoveHead();
            Execute(queue, new NvmeCommand(entries.Slice(i * NvmeCommand.Size, NvmeCommand.Size)));

            // What was fetched and not executed stays in the queue: the head has not passed it.
            if (!Running || _stall || generation != _activeGeneration || Volatile.Read(ref _controlWaiting) != 0)
                break;
        }

        return true;
    }

    private void Execute(SubmissionQueue queue, in NvmeCommand command)
    {
        _result = 0;
        if (queue.Id != 0 && IsPowerLost())
            return;
        ushort status = queue.Id == 0 ? ExecuteAdmin(command) : ExecuteIo(queue.Id, command);
        if (status == Held)
            return;
        if (status != NvmeStatus.Success)
        {
            status |= NvmeStatus.MayRetry(status) ? NvmeStatus.More : (ushort)(NvmeStatus.More | NvmeStatus.DoNotRetry);
            bool hasLba = queue.Id != 0 && command.Opcode is IoOpcode.Read or IoOpcode.Write or IoOpcode.WriteZeroes;
            _errorLog.Add(queue.Id, command, status, hasLba ? command.StartingLba : 0);
        }

        Post(queue, command.CommandId, status, _result);
    }

    private void Post(SubmissionQueue queue, ushort commandId, ushort status, uint result)
    {
        CompletionQueue completions = queue.Completions;
        uint dword2 = (uint)queue.Head | ((uint)queue.Id << 16);
        uint dword3 = commandId | ((uint)status << 17) | ((uint)completions.Phase << 16);
        _completionMover.FirstHalf = result;
        _completionMover.SecondHalf = dword2 | ((ulong)dword3 << 32);
        if (DmaTransfer(completions.TailAddress, CompletionMover.EntrySize, DmaDirection.FromDevice, _completionMover) != Errno.Ok)
        {
            SetFatal();
            return;
        }

        completions.MoveTail();
        completions.InterruptDue = true;
        _interruptsDue = true;
    }

    private void ListActiveQueues()
    {
        _activeCount = 0;
        foreach (SubmissionQueue? queue in _submissionQueues)
        {
            if (queue is not null)
                _active[_activeCount++] = queue;
        }

        _activeGeneration++;
    }

    private Errno DmaRead(ulong address, Span<byte> destination) => _gone ? Errno.ENODEV : _port.Read(address, destination);

    private Errno DmaWrite(ulong address, ReadOnlySpan<byte> source) => _gone ? Errno.ENODEV : _port.Write(address, source);

    private Errno DmaTransfer(ulong address, long length, DmaDirection direction, IDmaMover mover) =>
        _gone ? Errno.ENODEV : _port.Transfer(address, length, direction, mover);
}
