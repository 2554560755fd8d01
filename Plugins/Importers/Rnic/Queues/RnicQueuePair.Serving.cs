using System.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Hardware;
using DmaBufIo.Importers.Rnic.Regions;
using DmaBufIo.Rdma;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Queues;

/// <content>
/// What the engine does with posted sends, in order. A message that finds no map at either end stays where it is and holds nothing: it goes on, from the same packet, when a worker has made one. Packets that have
/// arrived are not sent again.
/// </content>
internal sealed partial class RnicQueuePair : IMapWaiter
{
    /// <summary>A turn ends after so many requests or bytes: others have their turn, and who drains or visits waits no longer than that.</summary>
    private const int RequestsPerTurn = 32;

    private const int BytesPerTurn = 128 << 10;

    private long _moved; // bytes of the message at the head that have arrived
    private long _waitingSince;
    private volatile bool _isStalled;
    private DmaBufToken? _unmappable; // written before _isStalled is cleared, read after

    private enum Step
    {
        /// <summary>The message is through.</summary>
        Done,

        /// <summary>It waits: for a map, a receive, the peer.</summary>
        Waits,

        /// <summary>The turn is over.</summary>
        TurnOver,

        /// <summary>The pair has failed.</summary>
        Failed,
    }

    /// <summary>True when the engine should look. A hint: without a lock.</summary>
    internal bool HasWork => !_send.IsEmpty && !_isStalled;

    /// <summary>One turn. The engine's context is entered.</summary>
    /// <returns>True when anything was done.</returns>
    internal bool Serve(RnicEngine engine)
    {
        RnicLink link = _link;
        lock (link.Lock)
        {
            if (!ReferenceEquals(link, _link))
                return true;
            int bytes = BytesPerTurn;
            bool worked = false;
            for (int i = 0; i < RequestsPerTurn && State != RdmaQueuePairState.Error && !_send.IsEmpty; i++)
            {
                Step step = Execute(engine, _send.Head, ref bytes);
                worked |= step != Step.Waits;
                if (step != Step.Done)
                    break;
            }

            return worked || bytes != BytesPerTurn;
        }
    }

    /// <inheritdoc/>
    void IMapWaiter.MapReady(DmaBufToken token, Errno status)
    {
        if (status != Errno.Ok)
            _unmappable = token;
        _isStalled = false;
        Device.Engine.RingDoorbell();
    }

    private Step Execute(RnicEngine engine, in WorkEntry entry, ref int bytes)
    {
        ref readonly RdmaWorkRequest request = ref entry.Request;
        RdmaStatus status = CheckLocal(entry, request.Length, isWritten: request.Opcode == RdmaOpcode.RdmaRead, out DmaBufToken? local);
        if (status != RdmaStatus.Success)
            return FailHead(engine, status);
        if (_peer is not { } peer)
            return WaitAtMost(engine, _options.RetryTimeout, RdmaStatus.RetryExceeded);
        return request.Opcode == RdmaOpcode.Send
            ? Send(engine, request, local!, peer, ref bytes)
            : Rdma(engine, request, local!, peer, ref bytes);
    }

    private Step Send(RnicEngine engine, in RdmaWorkRequest request, DmaBufToken local, RnicQueuePair peer, ref int bytes)
    {
        if (peer._receive.IsEmpty)
            return WaitAtMost(engine, _options.RnrTimeout, RdmaStatus.RnrRetryExceeded);
        _waitingSince = 0;
        ref WorkEntry receive = ref peer._receive.Head;
        RdmaStatus status = peer.CheckLocal(receive, receive.Request.Length, isWritten: true, out DmaBufToken? target);
        if (status == RdmaStatus.Success && request.Length > receive.Request.Length)
            status = RdmaStatus.LocalLengthError;
        if (status != RdmaStatus.Success)
        {
            peer.EndReceive(engine.Sink, status, 0);
            return FailHead(engine, status == RdmaStatus.LocalLengthError ? RdmaStatus.RemoteInvalidRequest : RdmaStatus.RemoteOperationError);
        }

        Step step = Move(engine, new End(this, local, request.LocalOffset, isPeers: false), new End(peer, target!, receive.Request.LocalOffset, isPeers: true), request.Length, ref bytes, out bool isPeersFault);
        if (step == Step.Done)
        {
            peer.EndReceive(engine.Sink, RdmaStatus.Success, request.Length);
            EndSend(engine.Sink, RdmaStatus.Success, request.Length);
        }
        else if (step == Step.Failed)
        {
            if (isPeersFault)
                peer.EndReceive(engine.Sink, RdmaStatus.LocalProtectionError, 0);
            FailHead(engine, isPeersFault ? RdmaStatus.RemoteOperationError : RdmaStatus.LocalProtectionError);
        }

        return step;
    }

    private Step Rdma(RnicEngine engine, in RdmaWorkRequest request, DmaBufToken local, RnicQueuePair peer, ref int bytes)
    {
        // Looked at again for every packet: the region may have been deregistered since the last one.
        bool isWrite = request.Opcode == RdmaOpcode.RdmaWrite;
        RdmaAccess right = isWrite ? RdmaAccess.RemoteWrite : RdmaAccess.RemoteRead;
        RnicRegion? region = peer.Device.Keys.FindRemote(request.RemoteKey);
        if (region is null || (region.Access & right) == 0 || region.Leaves(request.RemoteOffset, request.Length))
            return FailHead(engine, RdmaStatus.RemoteAccessError);
        var here = new End(this, local, request.LocalOffset, isPeers: false);
        var there = new End(peer, region.Token, request.RemoteOffset, isPeers: true);
        Step step = isWrite
            ? Move(engine, here, there, request.Length, ref bytes, out bool isPeersFault)
            : Move(engine, there, here, request.Length, ref bytes, out isPeersFault);
        if (step == Step.Done)
            EndSend(engine.Sink, RdmaStatus.Success, request.Length);
        else if (step == Step.Failed)
            FailHead(engine, isPeersFault ? RdmaStatus.RemoteOperationError : RdmaStatus.LocalProtectionError);
        return step;
    }

    /// <summary>Moves packets until the message is through, a map is missing, or the turn is over.</summary>
    private Step Move(RnicEngine engine, in End from, in End to, long length, ref int bytes, out bool isPeersFault)
    {
        isPeersFault = false;
        while (_moved < length)
        {
            if (bytes <= 0)
                return Step.TurnOver;
            int packet = (int)Math.Min(RnicEngine.PacketSize, length - _moved);
            End end = from;
            Access access = engine.Read(from.Port, from.Token, from.Offset + _moved, packet);
            if (access == Access.Done)
            {
                end = to;
                access = engine.Write(to.Port, to.Token, to.Offset + _moved, packet);
            }

            if (access == Access.NoMap && !ReferenceEquals(_unmappable, end.Token))
            {
                _unmappable = null;
                _isStalled = true;
                end.Token.RequestMap(this);
                return Step.Waits;
            }

            _unmappable = null;
            if (access != Access.Done)
            {
                isPeersFault = end.IsPeers;
                return Step.Failed;
            }

            _moved += packet;
            bytes -= packet;
        }

        return Step.Done;
    }

    /// <summary>Key, range and right of local memory. A ring has checked its own.</summary>
    private RdmaStatus CheckLocal(in WorkEntry entry, long length, bool isWritten, out DmaBufToken? token)
    {
        token = entry.Token;
        if (token is not null)
            return RdmaStatus.Success;
        RnicRegion? region = Device.Keys.FindLocal(entry.Request.LocalKey);
        if (region is null || (isWritten && (region.Access & RdmaAccess.LocalWrite) == 0) || region.Leaves(entry.Request.LocalOffset, length))
            return RdmaStatus.LocalProtectionError;
        token = region.Token;
        return RdmaStatus.Success;
    }

    private Step WaitAtMost(RnicEngine engine, TimeSpan timeout, RdmaStatus status)
    {
        if (timeout == Timeout.InfiniteTimeSpan)
            return Step.Waits;
        long now = Stopwatch.GetTimestamp();
        if (_waitingSince == 0)
            _waitingSince = now;
        TimeSpan left = timeout - Stopwatch.GetElapsedTime(_waitingSince, now);
        if (left <= TimeSpan.Zero)
            return FailHead(engine, status);
        engine.LookAgainIn(left);
        return Step.Waits;
    }

    /// <summary>One end of a transfer.</summary>
    private readonly struct End(RnicQueuePair pair, DmaBufToken token, long offset, bool isPeers)
    {
        internal DmaPort Port { get; } = pair.Device.Port;

        internal DmaBufToken Token { get; } = token;

        internal long Offset { get; } = offset;

        internal bool IsPeers { get; } = isPeers;
    }
}
