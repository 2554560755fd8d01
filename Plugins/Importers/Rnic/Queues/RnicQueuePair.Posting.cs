using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Hardware;
using DmaBufIo.Rdma;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Queues;

/// <content>The request path of the driver: into a ring, and a doorbell. No allocation, no lock, no interlocked instruction.</content>
internal sealed partial class RnicQueuePair
{
    /// <inheritdoc/>
    [HotPath]
    public override Errno PostSend(ReadOnlySpan<RdmaWorkRequest> requests, out int posted)
    {
        posted = 0;
        if (State == RdmaQueuePairState.Init)
            return Errno.ENOTCONN;
        Errno status = _isDisposed ? Errno.ESHUTDOWN : Errno.Ok;
        if (status != Errno.Ok)
            return status;
        foreach (ref readonly RdmaWorkRequest request in requests)
        {
            status = IsSendSide(request.Opcode) && request.Length >= 0 ? Add(_send, request, null) : Errno.EINVAL;
            if (status != Errno.Ok)
                break;
            posted++;
        }

        if (posted != 0)
            RingSend();
        return status;
    }

    /// <inheritdoc/>
    [HotPath]
    public override Errno PostReceive(ReadOnlySpan<RdmaWorkRequest> requests, out int posted)
    {
        posted = 0;
        Errno status = _isDisposed ? Errno.ESHUTDOWN : Errno.Ok;
        if (status != Errno.Ok)
            return status;
        foreach (ref readonly RdmaWorkRequest request in requests)
        {
            status = request.Opcode != RdmaOpcode.Receive || request.Length < 0 ? Errno.EINVAL : Add(_receive, request, null);
            if (status != Errno.Ok)
                break;
            posted++;
        }

        if (posted != 0)
            RingReceive();
        return status;
    }

    // Anything else would be served as one of these, past the checks of what it is.
    private static bool IsSendSide(RdmaOpcode opcode) => opcode is RdmaOpcode.Send or RdmaOpcode.RdmaWrite or RdmaOpcode.RdmaRead;

    /// <summary>Posts a request of a file, without the doorbell.</summary>
    [HotPath]
    internal Errno Post(in RdmaWorkRequest request, DmaBufToken token) =>
        Add(request.Opcode == RdmaOpcode.Receive ? _receive : _send, request, token);

    /// <summary>Tells the engine of what was posted to the send queue.</summary>
    [HotPath]
    internal void RingSend()
    {
        // The state is read after the tail was stored: whoever fails the pair has a barrier between the two the other way round.
        if (State == RdmaQueuePairState.Error)
            FlushPosted();
        else
            Device.Engine.RingDoorbell();
    }

    /// <summary>Tells the peer's engine, which may have a message waiting.</summary>
    [HotPath]
    internal void RingReceive()
    {
        if (State == RdmaQueuePairState.Error)
            FlushPosted();
        else
            _peer?.Device.Engine.RingDoorbell();
    }

    [HotPath]
    private static Errno Add(WorkRing ring, in RdmaWorkRequest request, DmaBufToken? token) => ring.TryPost(request, token) ? Errno.Ok : Errno.ENOMEM;

    // The engine leaves failed pairs alone: whoever posts to one ends it, too.
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void FlushPosted()
    {
        var sink = new CompletionSink();
        Locked(() => Flush(sink, RdmaStatus.WorkRequestFlushed));
        sink.Raise();
    }
}
