using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Memory;
using DmaBufIo.Rdma;

namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>
/// An end of a connection as the device under test: its file's reads are receives, its writes sends. The truth is at the other end, which posts work requests on memory of its own, a message each, in the order in which
/// the contract asks for them.
/// </summary>
internal sealed class ConnectionTarget : ImporterTarget
{
    private const int Longest = 512 << 10;
    private const int Half = 8 << 20;
    private static int s_connections;
    private readonly OpenedDevice _card;
    private readonly OpenedDevice _peerCard;
    private readonly RdmaQueuePair _pair;
    private readonly RdmaQueuePair _peer;
    private readonly MemoryRegion _memory = MemoryRegion.Allocate("peer", 2 * Half);
    private readonly DmaBuf _buffer;
    private readonly RdmaMemoryRegion _region;
    private readonly Queue<(int At, int Length)> _expected = new();
    private readonly Queue<RdmaCompletion> _received = new();
    private int _sent;
    private int _posted;
    private bool _disposed;

    internal ConnectionTarget(ContractWorld world, OpenFlags flags, string options = "")
    {
        int number = Interlocked.Increment(ref s_connections);
        _card = world.Host.Open($"rnic:left{number}{options}");
        _peerCard = world.Host.Open($"rnic:right{number}{options}");

        // Less room than a ring has requests, so that some wait for it.
        _pair = _card.RdmaDevice.CreateQueuePair(new RdmaQueuePairOptions { SendDepth = 16, ReceiveDepth = 16 });
        _peer = _peerCard.RdmaDevice.CreateQueuePair(new RdmaQueuePairOptions { SendDepth = 256, ReceiveDepth = 256 });
        _pair.Connect(_peer.Address);
        _peer.Connect(_pair.Address);
        File = _pair.OpenFile(flags);
        _buffer = DmaBuf.FromMemory(_memory);
        _region = _peerCard.RdmaDevice.RegisterMemory(_buffer, RdmaAccess.LocalWrite);
        try
        {
            MapPeer();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public override IoFile File { get; }

    public override long Capacity => Longest;

    public override void Give(long offset, ReadOnlySpan<byte> data)
    {
        Reap();
        int at = Next(ref _sent, data.Length);
        data.CopyTo(_memory.Span(at, data.Length));
        Assert.Equal(Errno.Ok, _peer.PostSend(RdmaWorkRequest.Send(1, _region, at, data.Length)));
    }

    public override void Expect(long offset, int length)
    {
        Reap();
        int at = Half + Next(ref _posted, length);
        Assert.Equal(Errno.Ok, _peer.PostReceive(RdmaWorkRequest.Receive(2, _region, at, length)));
        _expected.Enqueue((at, length));
    }

    public override byte[] Take(long offset, int length)
    {
        Assert.True(SpinWait.SpinUntil(() => Reap(), TimeSpan.FromSeconds(30)), "no message has come");
        (int at, int posted) = _expected.Dequeue();
        RdmaCompletion completion = _received.Dequeue();
        Assert.Equal((RdmaStatus.Success, (long)length, length), (completion.Status, completion.Length, posted));
        return _memory.Span(at, length).ToArray();
    }

    public override void Remove() => _card.Dispose();

    public override void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _pair.Disconnect();
        if (!File.IsClosed)
            File.Put();
        _pair.Dispose();
        _peer.Dispose();
        Reap();
        _region.Deregister();
        _buffer.Put();
        _memory.Dispose();
        _card.Dispose();
        _peerCard.Dispose();
    }

    // The peer's memory stays where it is and is mapped once: from here on what is mapped and unmapped is the contract's buffer.
    private void MapPeer()
    {
        using RdmaQueuePair from = _peerCard.RdmaDevice.CreateQueuePair();
        using RdmaQueuePair to = _peerCard.RdmaDevice.CreateQueuePair();
        from.Connect(to.Address);
        to.Connect(from.Address);
        Assert.Equal(Errno.Ok, to.PostReceive(RdmaWorkRequest.Receive(1, _region, Half, 1)));
        Assert.Equal(Errno.Ok, from.PostSend(RdmaWorkRequest.Send(1, _region, 0, 1)));
        var completions = new RdmaCompletion[1];
        Assert.True(SpinWait.SpinUntil(() => from.SendCompletions.Poll(completions) == 1, TimeSpan.FromSeconds(30)), "the peer's memory was not mapped");
        Assert.Equal(RdmaStatus.Success, completions[0].Status);
        Assert.True(SpinWait.SpinUntil(() => to.ReceiveCompletions.Poll(completions) == 1, TimeSpan.FromSeconds(30)), "the peer's memory was not mapped");
        Assert.Equal(RdmaStatus.Success, completions[0].Status);
    }

    // A place of a message's own, so that none is overwritten while it is under way.
    private static int Next(ref int cursor, int length)
    {
        int at = cursor + length <= Half ? cursor : 0;
        cursor = at + length;
        return at;
    }

    // Completions of sends are nobody's.
    private bool Reap()
    {
        var completions = new RdmaCompletion[8];
        int count;
        while ((count = _peer.SendCompletions.Poll(completions)) != 0)
        {
            foreach (RdmaCompletion completion in completions.AsSpan(0, count))
            {
                if (completion.Opcode == RdmaOpcode.Receive)
                    _received.Enqueue(completion);
            }
        }

        return _received.Count != 0;
    }
}
