using System.Numerics;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Rdma;

namespace DmaBufIo.Importers.Rnic.Queues;

/// <summary>A completion queue: engines of both ends post, one thread polls, without a lock.</summary>
internal sealed class RnicCompletionQueue : RdmaCompletionQueue
{
    private readonly Lock _producers = new();
    private readonly Entry[] _entries;
    private readonly int _capacity;
    private Action? _handler;
    private int _reserved;
    private int _head;
    private int _tail;

    internal RnicCompletionQueue(RnicDevice device, int capacity)
    {
        Device = device;
        _capacity = capacity;
        _entries = new Entry[BitOperations.RoundUpToPowerOf2((uint)capacity)];
    }

    /// <inheritdoc/>
    public override int Capacity => _capacity;

    internal RnicDevice Device { get; }

    internal bool HasHandler => Volatile.Read(ref _handler) is not null;

    /// <inheritdoc/>
    [HotPath]
    public override int Poll(Span<RdmaCompletion> completions)
    {
        if (!Device.Engine.HasThread)
            Device.Wire.AdvanceInline();
        int count = 0;
        int head = _head;
        int tail = Volatile.Read(ref _tail);
        int run = 0;
        RnicQueuePair? pair = null;
        bool isReceive = false;
        while (count < completions.Length && head != tail)
        {
            ref Entry entry = ref _entries[head & (_entries.Length - 1)];
            bool receives = entry.Completion.Opcode == RdmaOpcode.Receive;
            if (run != 0 && (!ReferenceEquals(pair, entry.Pair) || receives != isReceive))
            {
                pair!.Reap(isReceive, run);
                run = 0;
            }

            pair = entry.Pair;
            isReceive = receives;
            run++;
            completions[count++] = entry.Completion;
            head++;
        }

        // The places are the pair's again when it was told that they were reaped: not before they were read.
        _head = head;
        if (run != 0)
            pair!.Reap(isReceive, run);
        return count;
    }

    /// <inheritdoc/>
    public override bool TryEnableInterrupts(Action handler)
    {
        if (!Device.Engine.HasThread)
            return false;
        if (Interlocked.CompareExchange(ref _handler, handler, null) is not null)
            throw RnicError.Make(Errno.EBUSY, $"completion queue of {Device.Name}", "it has a handler already", "Enable interrupts once");
        return true;
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        lock (_producers)
        {
            if (_reserved != 0)
            {
                throw RnicError.Make(
                    Errno.EBUSY, $"completion queue of {Device.Name}", $"queue pairs hold {_reserved} of its {_capacity} places", "Dispose the queue pairs and poll what they have left");
            }
        }
    }

    /// <summary>A queue pair takes its depth.</summary>
    /// <exception cref="DmaBufIoException">There is no room (<c>ENOMEM</c>).</exception>
    internal void Reserve(int count)
    {
        lock (_producers)
        {
            if (count > _capacity - _reserved)
            {
                throw RnicError.Make(
                    Errno.ENOMEM, $"completion queue of {Device.Name}", $"{_reserved} of its {_capacity} places are taken, and the queue pair needs {count}", "Make it larger: the depths of all queue pairs that use it");
            }

            _reserved += count;
        }
    }

    /// <summary>Ends <see cref="Reserve"/>.</summary>
    internal void Return(int count)
    {
        lock (_producers)
            _reserved -= count;
    }

    /// <summary>Posts a completion. There is a place: its pair has reserved it.</summary>
    internal void Push(in RdmaCompletion completion, RnicQueuePair pair)
    {
        lock (_producers)
        {
            ref Entry entry = ref _entries[_tail & (_entries.Length - 1)];
            entry.Completion = completion;
            if (!ReferenceEquals(entry.Pair, pair))
                entry.Pair = pair;
            Volatile.Write(ref _tail, _tail + 1);
        }
    }

    /// <summary>Ends <see cref="TryEnableInterrupts"/>: one call may still be under way.</summary>
    internal void DisableInterrupts() => Volatile.Write(ref _handler, null);

    /// <summary>Calls the handler.</summary>
    internal void Interrupt() => Volatile.Read(ref _handler)?.Invoke();

    private struct Entry
    {
        internal RdmaCompletion Completion;
        internal RnicQueuePair Pair;
    }
}
