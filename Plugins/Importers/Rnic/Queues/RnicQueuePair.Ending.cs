using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Hardware;
using DmaBufIo.Rdma;

namespace DmaBufIo.Importers.Rnic.Queues;

/// <content>
/// How requests and pairs end. Everything here but <see cref="Fail"/> runs with the link's lock held. No reference on a map is held when a completion is posted (T18): packets hold theirs, and no longer.
/// </content>
internal sealed partial class RnicQueuePair
{
    /// <summary>Fails the pair and its peer from outside: closed, reset, removed. On the return nothing touches the pair's memory any more. Idempotent.</summary>
    internal void Fail(Errno reason)
    {
        var sink = new CompletionSink();
        Locked(() => FailBoth(sink, reason));
        sink.Raise();
    }

    /// <summary>The request at the head has failed: it ends so, and the connection with it.</summary>
    private Step FailHead(Turn turn, RdmaStatus status)
    {
        EndSend(turn.Sink, status, 0);

        // These two say that it is the peer that does not do its part.
        FailBoth(turn.Sink, status is RdmaStatus.RetryExceeded or RdmaStatus.RnrRetryExceeded ? Errno.ECONNRESET : Errno.EIO);
        return Step.Failed;
    }

    private void FailBoth(CompletionSink sink, Errno reason)
    {
        if (State == RdmaQueuePairState.Error)
            return;
        FailOne(sink, reason, RdmaStatus.WorkRequestFlushed);

        // To the peer this end is gone: the message that it was about to send was not acknowledged.
        _peer?.FailOne(sink, Errno.ECONNRESET, RdmaStatus.RetryExceeded);
    }

    private void FailOne(CompletionSink sink, Errno reason, RdmaStatus firstSend)
    {
        if (State == RdmaQueuePairState.Error)
            return;
        _reason = reason;
        _state = (int)RdmaQueuePairState.Error;

        // Posters store a tail, then load the state: either their request is seen here, or they see the state and flush it themselves.
        Interlocked.MemoryBarrierProcessWide();
        Flush(sink, firstSend);
    }

    /// <summary>Ends everything posted, in order.</summary>
    private void Flush(CompletionSink sink, RdmaStatus firstSend)
    {
        while (!_send.IsEmpty)
        {
            EndSend(sink, firstSend, 0);
            firstSend = RdmaStatus.WorkRequestFlushed;
        }

        while (!_receive.IsEmpty)
            EndReceive(sink, RdmaStatus.WorkRequestFlushed, 0);
    }

    private void EndSend(CompletionSink sink, RdmaStatus status, long length)
    {
        _moved = 0;
        _packed = 0;
        _waitingSince = 0;
        ref WorkEntry entry = ref _send.Head;
        var completion = new RdmaCompletion(entry.Request.Id, entry.Request.Opcode, status, length, Number);
        _send.RemoveHead();
        sink.Push(_sendCompletions, completion, this);
    }

    private void EndReceive(CompletionSink sink, RdmaStatus status, long length)
    {
        var completion = new RdmaCompletion(_receive.Head.Request.Id, RdmaOpcode.Receive, status, length, Number);
        _receive.RemoveHead();
        sink.Push(_receiveCompletions, completion, this);
    }
}
