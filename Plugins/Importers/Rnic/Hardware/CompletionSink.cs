using DmaBufIo.Importers.Rnic.Queues;
using DmaBufIo.Rdma;

namespace DmaBufIo.Importers.Rnic.Hardware;

/// <summary>Posts completions and remembers whom to interrupt for them, until no lock is held any more. Used by one thread at a time.</summary>
internal sealed class CompletionSink
{
    private readonly List<RnicCompletionQueue> _touched = [];

    internal void Push(RnicCompletionQueue queue, in RdmaCompletion completion, RnicQueuePair pair)
    {
        queue.Push(completion, pair);
        if (queue.HasHandler && !_touched.Contains(queue))
            _touched.Add(queue);
    }

    /// <summary>Interrupts. Without locks.</summary>
    internal void Raise()
    {
        if (_touched.Count == 0)
            return;
        foreach (RnicCompletionQueue queue in _touched)
            queue.Interrupt();
        _touched.Clear();
    }
}
