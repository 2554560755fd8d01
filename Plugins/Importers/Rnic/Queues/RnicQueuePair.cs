using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Importers.Rnic.Files;
using DmaBufIo.Importers.Rnic.Hardware;
using DmaBufIo.Rdma;

namespace DmaBufIo.Importers.Rnic.Queues;

/// <summary>A queue pair of a card. This file: making, connecting and ending it. Posting, serving and failing are in files of their own.</summary>
internal sealed partial class RnicQueuePair : RdmaQueuePair
{
    private readonly RdmaQueuePairOptions _options;
    private readonly RnicCompletionQueue _sendCompletions;
    private readonly RnicCompletionQueue _receiveCompletions;
    private readonly bool _ownsCompletions;
    private readonly WorkRing _send;
    private readonly WorkRing _receive;
    private volatile RnicLink _link = new();
    private volatile RnicQueuePair? _peer; // set once, under the link's lock
    private RdmaAddress? _destination;     // guarded by the wire
    private volatile int _state;
    private Errno _reason;
    private int _isOpen;
    private int _returned;
    private volatile bool _isDisposed;

    internal RnicQueuePair(RnicDevice device, int number, RdmaQueuePairOptions options)
    {
        Device = device;
        Number = number;
        _options = options;
        _ownsCompletions = options.SendCompletions is null && options.ReceiveCompletions is null;
        _sendCompletions = QueueOf(options.SendCompletions) ?? new RnicCompletionQueue(device, options.SendDepth + options.ReceiveDepth);
        _receiveCompletions = QueueOf(options.ReceiveCompletions) ?? _sendCompletions;
        _sendCompletions.Reserve(options.SendDepth);
        try
        {
            _receiveCompletions.Reserve(options.ReceiveDepth);
        }
        catch
        {
            _sendCompletions.Return(options.SendDepth);
            throw;
        }

        _send = new WorkRing(options.SendDepth);
        _receive = new WorkRing(options.ReceiveDepth);
    }

    /// <inheritdoc/>
    public override int Number { get; }

    /// <inheritdoc/>
    public override RdmaAddress Address => new(Device.Name, Number);

    /// <inheritdoc/>
    public override RdmaQueuePairState State => (RdmaQueuePairState)_state;

    /// <inheritdoc/>
    public override Errno Reason => State == RdmaQueuePairState.Error ? _reason : Errno.Ok;

    /// <inheritdoc/>
    public override RdmaCompletionQueue SendCompletions => _sendCompletions;

    /// <inheritdoc/>
    public override RdmaCompletionQueue ReceiveCompletions => _receiveCompletions;

    internal RnicDevice Device { get; }

    /// <summary>Somebody waits to change the pair; for tests.</summary>
    internal bool IsWanted => _link.IsWanted;

    /// <inheritdoc/>
    public override void Connect(RdmaAddress peer)
    {
        if (peer == Address)
            throw RnicError.Make(Errno.EINVAL, ToString(), "a queue pair cannot be its own peer", "Name the other end");
        lock (Device.Wire.Connecting)
        {
            RnicDevice device = Device.Wire.Find(peer.Device ?? "")
                ?? throw RnicError.Make(Errno.ENXIO, ToString(), $"no card '{peer.Device}' is on the wire", "Open it first, in the same host");
            if (State == RdmaQueuePairState.Error)
                throw RnicError.Make(Errno.ECONNRESET, ToString(), "the queue pair has failed or was disconnected", "Dispose it and make another one");
            if (_destination is not null)
                throw RnicError.Make(Errno.EISCONN, ToString(), $"it has the peer {_destination} already", "Make another queue pair for another peer");
            _destination = peer;
            RnicQueuePair? other = device.Find(peer.QueuePair);
            if (other?._destination == Address)
                Join(other);
            else
                Locked(() => _state = State == RdmaQueuePairState.Init ? (int)RdmaQueuePairState.ReadyToReceive : _state);
        }
    }

    /// <inheritdoc/>
    public override void Disconnect() => Fail(Errno.ECANCELED);

    /// <inheritdoc/>
    public override IoFile OpenFile(OpenFlags flags = OpenFlags.Direct)
    {
        if (!_ownsCompletions)
            throw RnicError.Make(Errno.EINVAL, ToString(), "its completion queues are not its own", "Make the queue pair without completion queues");
        if (Interlocked.Exchange(ref _isOpen, 1) != 0)
            throw RnicError.Make(Errno.EBUSY, ToString(), "it is open as a file already", "Use that file, or another queue pair");
        return new RnicFile(this, flags);
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (_isDisposed)
            return;
        Fail(Errno.ECANCELED);
        Device.Forget(this);
        _isDisposed = true;

        // Against a poller that reaps the last completion now: it sees the pair disposed, or is seen.
        Interlocked.MemoryBarrierProcessWide();
        ReturnPlaces();
    }

    /// <inheritdoc/>
    public override string ToString() => $"queue pair {Address}";

    /// <summary>The ring that uses the file is closed.</summary>
    internal void DisableInterrupts() => _sendCompletions.DisableInterrupts();

    /// <summary>The file was closed: the pair may be opened again.</summary>
    internal void FileClosed() => Volatile.Write(ref _isOpen, 0);

    /// <summary>The poller has taken completions.</summary>
    [Diagnostics.HotPath]
    internal void Reap(bool isReceive, int count)
    {
        (isReceive ? _receive : _send).Reap(count);
        if (_isDisposed)
            ReturnPlaces();
    }

    /// <summary>True when a posted request names the region.</summary>
    internal bool Names(uint localKey)
    {
        bool names = false;
        Locked(() => names = _send.Names(localKey) || _receive.Names(localKey));
        return names;
    }

    private RnicCompletionQueue? QueueOf(RdmaCompletionQueue? queue) => queue switch
    {
        null => null,
        RnicCompletionQueue own when own.Device == Device => own,
        _ => throw RnicError.Make(Errno.EINVAL, Device.Name, "the completion queue is another device's", "Make it on the device of the queue pair"),
    };

    // Both have named each other. The wire's lock is held, so nobody else exchanges links.
    private void Join(RnicQueuePair other)
    {
        (RnicLink first, RnicLink second) = _link.Order < other._link.Order ? (_link, other._link) : (other._link, _link);
        using (first.EnterControl())
        {
            using (second.EnterControl())
            {
                if (State == RdmaQueuePairState.Error)
                    return;
                if (other.State == RdmaQueuePairState.Error)
                {
                    _state = (int)RdmaQueuePairState.ReadyToReceive; // waits for a peer that will not answer
                    return;
                }

                (_peer, other._peer) = (other, this);
                _state = other._state = (int)RdmaQueuePairState.ReadyToSend;
                _waitingSince = other._waitingSince = 0;
                _link = other._link = new RnicLink();
            }
        }

        Device.Engine.RingDoorbell();
        other.Device.Engine.RingDoorbell();
    }

    // Runs with the link's lock held, whichever link is the pair's by then.
    private void Locked(Action action)
    {
        while (true)
        {
            RnicLink link = _link;
            using (link.EnterControl())
            {
                if (!ReferenceEquals(link, _link))
                    continue;
                action();
                return;
            }
        }
    }

    // Places in completion queues go back when nothing of the pair is left in them.
    private void ReturnPlaces()
    {
        if (!_send.IsReaped || !_receive.IsReaped || Interlocked.Exchange(ref _returned, 1) != 0)
            return;
        _sendCompletions.Return(_options.SendDepth);
        _receiveCompletions.Return(_options.ReceiveDepth);
    }
}
