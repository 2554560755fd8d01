using System.Numerics;
using DmaBufIo.Pci.Model.Protocol;

namespace DmaBufIo.Pci.Model;

/// <summary>
/// Interrupt messages. A round sets the pending bits of its completion queues' vectors while it holds the engine's lock; the messages are
/// sent after the lock is released, each bit taken by one thread. Completions of one round share a message.
/// </summary>
public sealed partial class NvmeControllerModel
{
    private readonly Action?[] _handlers;
    private readonly long[] _pendingVectors;
    private bool _interruptsDue;

    private void CollectInterrupts()
    {
        if (!_interruptsDue)
            return;
        _interruptsDue = false;
        foreach (CompletionQueue? queue in _completionQueues)
        {
            if (queue is null || !queue.InterruptDue)
                continue;
            queue.InterruptDue = false;
            if (queue.InterruptsEnabled)
                Interlocked.Or(ref _pendingVectors[queue.Vector >> 6], 1L << (queue.Vector & 63));
        }
    }

    private void RaiseInterrupts()
    {
        for (int word = 0; word < _pendingVectors.Length; word++)
        {
            if (Volatile.Read(ref _pendingVectors[word]) == 0)
                continue;

            // INTMS and INTMC cover the first 32 vectors; a masked one stays pending.
            long masked = word == 0 ? (uint)Volatile.Read(ref _interruptMask) : 0;
            ulong taken = (ulong)(Interlocked.And(ref _pendingVectors[word], masked) & ~masked);
            for (; taken != 0; taken &= taken - 1)
                Volatile.Read(ref _handlers[(word << 6) + BitOperations.TrailingZeroCount(taken)])?.Invoke();
        }
    }
}
