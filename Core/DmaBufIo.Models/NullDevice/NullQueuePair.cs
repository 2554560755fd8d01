using System.Runtime.InteropServices;
using DmaBufIo.Dma;

namespace DmaBufIo.Models.NullDevice;

/// <summary>
/// One I/O queue pair of a null controller: commands are consumed when their doorbell is rung, on the thread that rings it, and completed at once. The
/// command is checked as far as a device must to know what to answer; no data moves.
/// </summary>
internal sealed class NullQueuePair : IDisposable
{
    private const int CommandQwords = 8;
    private const int CompletionQwords = 2;
    private const uint Flush = 0x00;
    private const uint Write = 0x01;
    private const uint Read = 0x02;
    private const ulong InvalidOpcode = 0x01;
    private const ulong InvalidNamespace = 0x0B;
    private const ulong LbaOutOfRange = 0x80;
    private const ulong DoNotRetry = 0x4000;

    private readonly DmaWindow _submission;
    private readonly DmaWindow _completion;
    private readonly ulong _blocks;
    private readonly ulong _queueId;
    private readonly uint _submissionEntries;
    private readonly uint _completionEntries;
    private uint _head;
    private uint _tail;
    private uint _completionTail;
    private uint _completionHead;
    private ulong _phase = 1UL << 48;

    internal NullQueuePair(int queueId, DmaWindow submission, uint submissionEntries, DmaWindow completion, uint completionEntries, ulong blocks)
    {
        _queueId = (ulong)queueId << 16;
        _submission = submission;
        _submissionEntries = submissionEntries;
        _completion = completion;
        _completionEntries = completionEntries;
        _blocks = blocks;
    }

    /// <summary>The submission queue's tail doorbell.</summary>
    /// <returns>False when the doorbell or the memory was wrong: the controller fails.</returns>
    internal bool RingTail(uint tail)
    {
        if (tail >= _submissionEntries)
            return false;
        _tail = tail;
        return Work();
    }

    /// <summary>The completion queue's head doorbell: makes room for completions that had none.</summary>
    /// <returns>False when the doorbell or the memory was wrong: the controller fails.</returns>
    internal bool RingHead(uint head)
    {
        if (head >= _completionEntries)
            return false;
        _completionHead = head;
        return _head == _tail || Work();
    }

    public void Dispose()
    {
        _submission.Dispose();
        _completion.Dispose();
    }

    private bool Work()
    {
        if (!_submission.TryEnter(out Span<byte> commands))
            return false;
        bool entered = _completion.TryEnter(out Span<byte> completions);
        if (entered)
        {
            Consume(MemoryMarshal.Cast<byte, ulong>(commands), MemoryMarshal.Cast<byte, ulong>(completions));
            _completion.Leave();
        }

        _submission.Leave();
        return entered;
    }

    private void Consume(ReadOnlySpan<ulong> commands, Span<ulong> completions)
    {
        uint head = _head;
        uint at = _completionTail;
        ulong phase = _phase;
        uint room = _completionHead + (_completionHead <= at ? _completionEntries : 0) - at - 1;
        for (; head != _tail && room != 0; room--)
        {
            ReadOnlySpan<ulong> command = commands.Slice((int)head * CommandQwords, CommandQwords);
            head = head + 1 == _submissionEntries ? 0 : head + 1;
            ulong first = command[0];
            ulong status = Execute(first, command);
            ulong identifier = (first & 0xFFFF_0000) << 16;

            // The second half holds the phase and is stored last, whole; the first half of every completion is 0 and stays so.
            Volatile.Write(ref completions[((int)at * CompletionQwords) + 1], head | _queueId | identifier | phase | (status << 49));
            if (++at == _completionEntries)
            {
                at = 0;
                phase ^= 1UL << 48;
            }
        }

        _head = head;
        _completionTail = at;
        _phase = phase;
    }

    private ulong Execute(ulong first, ReadOnlySpan<ulong> command)
    {
        uint opcode = (uint)first & 0xFF;
        if (opcode is not (Read or Write))
            return opcode == Flush ? 0 : InvalidOpcode | DoNotRetry;
        if (first >> 32 != 1)
            return InvalidNamespace | DoNotRetry;
        ulong lba = command[5];
        ulong blocks = (command[6] & 0xFFFF) + 1;
        return lba < _blocks && blocks <= _blocks - lba ? 0 : LbaOutOfRange | DoNotRetry;
    }
}
