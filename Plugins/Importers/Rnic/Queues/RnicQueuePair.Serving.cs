using System.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Hardware;
using DmaBufIo.Importers.Rnic.Regions;
using DmaBufIo.Io;
using DmaBufIo.Rdma;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Queues;

/// <content>
/// What engines do with posted sends, in order. A message that finds no map at either end stays where it is and holds nothing: it goes on, with the same packet, when a worker has made one. What was read is kept in the
/// card, so both ends need not have a map at the same moment; packets that have arrived are not sent again.
/// </content>
internal sealed partial class RnicQueuePair : IMapWaiter
{
    private readonly byte[] _packet = new byte[Turn.PacketSize];
    private int _packed; // bytes in it that were read and not written yet
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

    /// <summary>One turn. The turn's context is entered.</summary>
    /// <returns>True when anything was done.</returns>
    internal bool Serve(Turn turn)
    {
        RnicLink link = _link;
        if (link.IsWanted)
        {
            Thread.Yield();
            return true;
        }

        lock (link.Lock)
        {
            if (!ReferenceEquals(link, _link))
                return true;
            bool worked = false;
            while (turn.Requests-- > 0 && !link.IsWanted && State != RdmaQueuePairState.Error && !_send.IsEmpty)
            {
                long before = _moved + _packed;
                Step step = Execute(turn, _send.Head);
                worked |= step != Step.Waits || _moved + _packed != before;
                if (step != Step.Done)
                    break;
            }

            return worked;
        }
    }

    /// <inheritdoc/>
    void IMapWaiter.MapReady(DmaBufToken token, DmaMap map, IoContext context)
    {
        _isStalled = false;
        var turn = new Turn(context) { Observer = Device.Engine.Observer };
        turn.BeginWith(token, map);
        Serve(turn);
        turn.Sink.Raise();
        Device.Engine.RingDoorbell(); // the rest is the engine's
    }

    /// <inheritdoc/>
    void IMapWaiter.MapFailed(DmaBufToken token, Errno status)
    {
        _unmappable = token;
        _isStalled = false;
        Device.Engine.RingDoorbell();
    }

    private Step Execute(Turn turn, in WorkEntry entry)
    {
        ref readonly RdmaWorkRequest request = ref entry.Request;
        RdmaStatus status = CheckLocal(entry, request.Length, isWritten: request.Opcode == RdmaOpcode.RdmaRead, out DmaBufToken? local);
        if (status != RdmaStatus.Success)
            return FailHead(turn, status);
        if (_peer is not { } peer)
            return WaitAtMost(turn, _options.RetryTimeout, RdmaStatus.RetryExceeded);
        return request.Opcode == RdmaOpcode.Send
            ? Send(turn, request, local!, peer)
            : Rdma(turn, request, local!, peer);
    }

    private Step Send(Turn turn, in RdmaWorkRequest request, DmaBufToken local, RnicQueuePair peer)
    {
        if (peer._receive.IsEmpty)
            return WaitAtMost(turn, _options.RnrTimeout, RdmaStatus.RnrRetryExceeded);
        _waitingSince = 0;
        ref WorkEntry receive = ref peer._receive.Head;
        RdmaStatus status = peer.CheckLocal(receive, receive.Request.Length, isWritten: true, out DmaBufToken? target);
        if (status == RdmaStatus.Success && request.Length > receive.Request.Length)
            status = RdmaStatus.LocalLengthError;
        if (status != RdmaStatus.Success)
        {
            peer.EndReceive(turn.Sink, status, 0);
            return FailHead(turn, status == RdmaStatus.LocalLengthError ? RdmaStatus.RemoteInvalidRequest : RdmaStatus.RemoteOperationError);
        }

        Step step = Move(turn, new End(this, local, request.LocalOffset, isPeers: false), new End(peer, target!, receive.Request.LocalOffset, isPeers: true), request.Length, out bool isPeersFault);
        if (step == Step.Done)
        {
            peer.EndReceive(turn.Sink, RdmaStatus.Success, request.Length);
            EndSend(turn.Sink, RdmaStatus.Success, request.Length);
        }
        else if (step == Step.Failed)
        {
            if (isPeersFault)
                peer.EndReceive(turn.Sink, RdmaStatus.LocalProtectionError, 0);
            FailHead(turn, isPeersFault ? RdmaStatus.RemoteOperationError : RdmaStatus.LocalProtectionError);
        }

        return step;
    }

    private Step Rdma(Turn turn, in RdmaWorkRequest request, DmaBufToken local, RnicQueuePair peer)
    {
        // Looked at again for every packet: the region may have been deregistered since the last one.
        bool isWrite = request.Opcode == RdmaOpcode.RdmaWrite;
        RdmaAccess right = isWrite ? RdmaAccess.RemoteWrite : RdmaAccess.RemoteRead;
        RnicRegion? region = peer.Device.Keys.FindRemote(request.RemoteKey);
        if (region is null || (region.Access & right) == 0 || region.Leaves(request.RemoteOffset, request.Length))
            return FailHead(turn, RdmaStatus.RemoteAccessError);
        var here = new End(this, local, request.LocalOffset, isPeers: false);
        var there = new End(peer, region.Token, request.RemoteOffset, isPeers: true);
        Step step = isWrite
            ? Move(turn, here, there, request.Length, out bool isPeersFault)
            : Move(turn, there, here, request.Length, out isPeersFault);
        if (step == Step.Done)
            EndSend(turn.Sink, RdmaStatus.Success, request.Length);
        else if (step == Step.Failed)
            FailHead(turn, isPeersFault ? RdmaStatus.RemoteOperationError : RdmaStatus.LocalProtectionError);
        return step;
    }

    /// <summary>Moves packets until the message is through, a map is missing, or the turn is over.</summary>
    private Step Move(Turn turn, in End from, in End to, long length, out bool isPeersFault)
    {
        isPeersFault = false;
        while (_moved < length)
        {
            if (turn.Bytes <= 0 || _link.IsWanted)
                return Step.TurnOver;
            End end = from;
            Access access = Access.Done;
            if (_packed == 0)
            {
                int packet = (int)Math.Min(Turn.PacketSize, length - _moved);
                access = turn.Read(from.Port, from.Token, from.Offset + _moved, _packet.AsSpan(0, packet));
                if (access == Access.Done)
                    _packed = packet;
            }

            if (access == Access.Done)
            {
                end = to;
                access = turn.Write(to.Port, to.Token, to.Offset + _moved, _packet.AsSpan(0, _packed));
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

            _moved += _packed;
            turn.Bytes -= _packed;
            _packed = 0;
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

    private Step WaitAtMost(Turn turn, TimeSpan timeout, RdmaStatus status)
    {
        if (timeout == Timeout.InfiniteTimeSpan)
            return Step.Waits;
        long now = Stopwatch.GetTimestamp();
        if (_waitingSince == 0)
            _waitingSince = now;
        TimeSpan left = timeout - Stopwatch.GetElapsedTime(_waitingSince, now);
        if (left <= TimeSpan.Zero)
            return FailHead(turn, status);
        turn.LookAgainIn(left);
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
