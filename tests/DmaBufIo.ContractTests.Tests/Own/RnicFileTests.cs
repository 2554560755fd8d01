using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Memory;
using DmaBufIo.Rdma;

namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>A queue pair as a file: a connection, whose other end is driven by verbs.</summary>
internal sealed class RnicFileFixture : IFileFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Importers.Rnic");

    public FileCapabilities Capabilities => FileCapabilities.None;

    public ImporterTarget Open(ContractWorld world, OpenFlags flags) => new ConnectionTarget(world, flags);
}

/// <summary>Two cards, a connected pair, and memory of the peer's own.</summary>
internal sealed class ConnectionTarget : ImporterTarget
{
    private const int Longest = 512 << 10;
    private static int s_connections;
    private readonly OpenedDevice _card;
    private readonly OpenedDevice _peerCard;
    private readonly RdmaQueuePair _pair;
    private readonly RdmaQueuePair _peer;
    private readonly MemoryRegion _memory = MemoryRegion.Allocate("peer", 2 * Longest);
    private readonly DmaBuf _buffer;
    private readonly RdmaMemoryRegion _region;
    private bool _disposed;

    internal ConnectionTarget(ContractWorld world, OpenFlags flags)
    {
        int number = Interlocked.Increment(ref s_connections);
        _card = world.Host.Open($"rnic:left{number}");
        _peerCard = world.Host.Open($"rnic:right{number}");
        _pair = _card.RdmaDevice.CreateQueuePair();
        _peer = _peerCard.RdmaDevice.CreateQueuePair();
        _pair.Connect(_peer.Address);
        _peer.Connect(_pair.Address);
        File = _pair.OpenFile(flags);
        _buffer = DmaBuf.FromMemory(_memory);
        _region = _peerCard.RdmaDevice.RegisterMemory(_buffer, RdmaAccess.LocalWrite);
    }

    public override IoFile File { get; }

    public override long Capacity => Longest;

    public override int MemoryAlignment => 1;

    public override void Give(long offset, ReadOnlySpan<byte> data)
    {
        Settle();
        data.CopyTo(_memory.Span(0, data.Length));
        Assert.Equal(Errno.Ok, _peer.PostSend(RdmaWorkRequest.Send(1, _region, 0, data.Length)));
    }

    public override void Expect(long offset, int length)
    {
        Settle();
        Assert.Equal(Errno.Ok, _peer.PostReceive(RdmaWorkRequest.Receive(2, _region, Longest, length)));
    }

    public override byte[] Take(long offset, int length)
    {
        var completions = new RdmaCompletion[1];
        Assert.True(SpinWait.SpinUntil(() => _peer.ReceiveCompletions.Poll(completions) == 1 && completions[0].Opcode == RdmaOpcode.Receive, TimeSpan.FromSeconds(30)), "no message has come");
        Assert.Equal((RdmaStatus.Success, (long)length), (completions[0].Status, completions[0].Length));
        return _memory.Span(Longest, length).ToArray();
    }

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
        Settle();
        _region.Deregister();
        _buffer.Put();
        _memory.Dispose();
        _card.Dispose();
        _peerCard.Dispose();
    }

    // What was sent before has arrived; its completions are nobody's.
    private void Settle()
    {
        var completions = new RdmaCompletion[8];
        while (_peer.SendCompletions.Poll(completions) != 0)
        {
        }
    }
}

public sealed class RnicFileTests() : FileContract(new RnicFileFixture());
