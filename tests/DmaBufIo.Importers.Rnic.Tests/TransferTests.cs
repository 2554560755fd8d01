using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Tests.Harness;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rdma;

namespace DmaBufIo.Importers.Rnic.Tests;

/// <summary>What arrives is what was sent, byte for byte, and nothing else is touched; each direction for itself, against memory that was written by other means.</summary>
public sealed class TransferTests
{
    private const int Size = 256 << 10;

    // Around the packet, the page, and nothing at all.
    private static readonly (int From, int To, int Length)[] s_shapes =
    [
        (0, 0, 0), (0, 0, 1), (3, 5, 4093), (4096, 0, 4096), (1, 4095, 32 << 10), (7, 0, (32 << 10) + 1), (0, 9, 100_000), (Size - 13, 11, 13), (17, Size - 70_000, 70_000), (0, 0, Size),
    ];

    [Theory]
    [InlineData(false, IommuMode.Strict)]
    [InlineData(false, IommuMode.Lazy)]
    [InlineData(false, IommuMode.Passthrough)]
    [InlineData(true, IommuMode.Strict)]
    public void A_message_arrives_as_it_was_sent_in_both_directions(bool ownThread, IommuMode mode)
    {
        using var rig = new Rig(ownThread, mode);
        (RdmaQueuePair left, RdmaQueuePair right) = rig.Connect();
        Send(rig, rig.Left, left, rig.Right, right);
        Send(rig, rig.Right, right, rig.Left, left);
    }

    [Theory]
    [InlineData(RdmaOpcode.RdmaWrite)]
    [InlineData(RdmaOpcode.RdmaRead)]
    public void RDMA_moves_exactly_its_range_in_both_directions_and_the_peer_hears_nothing(RdmaOpcode opcode)
    {
        using var rig = new Rig();
        (RdmaQueuePair left, RdmaQueuePair right) = rig.Connect();
        Rdma(rig, opcode, rig.Left, left, rig.Right, right);
        Rdma(rig, opcode, rig.Right, right, rig.Left, left);
    }

    [Fact]
    public void Messages_of_one_pair_arrive_in_order_and_each_goes_into_one_receive()
    {
        using var rig = new Rig();
        (RdmaQueuePair left, RdmaQueuePair right) = rig.Connect();
        MovingExporter from = rig.Buffer("from", Size);
        MovingExporter to = rig.Buffer("to", Size);
        RdmaMemoryRegion source = rig.Register(rig.Left, from, RdmaAccess.None);
        RdmaMemoryRegion target = rig.Register(rig.Right, to, RdmaAccess.LocalWrite);
        for (int i = 0; i < 40; i++)
        {
            from.Region.Span(i * 4096, 4096).Fill((byte)(i + 1));
            Assert.Equal(Errno.Ok, right.PostReceive(RdmaWorkRequest.Receive((ulong)i, target, i * 4096, 4096)));
        }

        for (int i = 0; i < 40; i++)
            Assert.Equal(Errno.Ok, left.PostSend(RdmaWorkRequest.Send((ulong)i, source, i * 4096, 100 + i)));
        for (int i = 0; i < 40; i++)
        {
            Assert.Equal(new RdmaCompletion((ulong)i, RdmaOpcode.Receive, RdmaStatus.Success, 100 + i, right.Number), Rig.Next(right.ReceiveCompletions));
            Assert.Equal(new RdmaCompletion((ulong)i, RdmaOpcode.Send, RdmaStatus.Success, 100 + i, left.Number), Rig.Next(left.SendCompletions));
            Assert.Equal(100 + i, to.Region.Span(i * 4096, 4096).Count((byte)(i + 1)));
        }
    }

    [Fact]
    public void A_full_queue_takes_no_more_until_completions_are_reaped()
    {
        using var rig = new Rig();
        (RdmaQueuePair left, RdmaQueuePair right) = rig.Connect(new RdmaQueuePairOptions { SendDepth = 3, ReceiveDepth = 5 });
        RdmaMemoryRegion region = rig.Register(rig.Left, rig.Buffer("b", 4096), RdmaAccess.LocalWrite);
        RdmaMemoryRegion target = rig.Register(rig.Right, rig.Buffer("t", 4096), RdmaAccess.LocalWrite);
        var send = RdmaWorkRequest.Send(1, region, 0, 8);
        var receive = RdmaWorkRequest.Receive(2, target, 0, 8);
        Assert.Equal(Errno.ENOMEM, right.PostReceive(Enumerable.Repeat(receive, 7).ToArray(), out int posted));
        Assert.Equal(5, posted);
        Assert.Equal(Errno.ENOMEM, left.PostSend(Enumerable.Repeat(send, 7).ToArray(), out posted));
        Assert.Equal(3, posted);
        Assert.Equal(RdmaStatus.Success, Rig.Next(right.ReceiveCompletions).Status);
        Assert.Equal(Errno.ENOMEM, left.PostSend(send)); // done, but not reaped
        Assert.Equal(RdmaStatus.Success, Rig.Next(left.SendCompletions).Status);
        Assert.Equal(Errno.Ok, left.PostSend(send));
        Assert.Equal(Errno.ENOMEM, left.PostSend(send));
        Assert.All(Rig.Next(left.SendCompletions, 3), static c => Assert.Equal(RdmaStatus.Success, c.Status));
    }

    [Fact]
    public void Several_pairs_share_a_completion_queue_which_cannot_overflow()
    {
        using var rig = new Rig();
        using RdmaCompletionQueue queue = rig.Left.CreateCompletionQueue(20);
        var options = new RdmaQueuePairOptions { SendDepth = 4, ReceiveDepth = 5, SendCompletions = queue, ReceiveCompletions = queue };
        RdmaQueuePair first = rig.Left.CreateQueuePair(options);
        RdmaQueuePair second = rig.Left.CreateQueuePair(options);
        Assert.Equal(Errno.ENOMEM, Assert.Throws<DmaBufIoException>(() => rig.Left.CreateQueuePair(options)).Errno);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => rig.Right.CreateQueuePair(options)).Errno);
        Assert.Equal(Errno.EBUSY, Assert.Throws<DmaBufIoException>(queue.Dispose).Errno);
        foreach (RdmaQueuePair pair in new[] { first, second })
        {
            RdmaQueuePair peer = rig.Pair(rig.Right);
            pair.Connect(peer.Address);
            peer.Connect(pair.Address);
        }

        RdmaMemoryRegion region = rig.Register(rig.Left, rig.Buffer("b", 4096), RdmaAccess.LocalWrite);
        first.PostReceive(RdmaWorkRequest.Receive(7, region, 0, 8));
        second.PostReceive(RdmaWorkRequest.Receive(8, region, 0, 8));
        first.Dispose();
        second.Dispose();
        Assert.Equal((Errno.ESHUTDOWN, Errno.ESHUTDOWN), (first.PostSend(default(RdmaWorkRequest)), first.PostReceive(RdmaWorkRequest.Receive(9, region, 0, 8))));
        Assert.Equal(Errno.EBUSY, Assert.Throws<DmaBufIoException>(queue.Dispose).Errno); // what the pairs have left is not reaped
        Assert.Equal([(7UL, first.Number), (8UL, second.Number)], Rig.Next(queue, 2).Select(static c => (c.Id, c.QueuePair)));
    }

    private static void Send(Rig rig, RnicDevice fromDevice, RdmaQueuePair sender, RnicDevice toDevice, RdmaQueuePair receiver)
    {
        MovingExporter from = rig.Buffer("from", Size);
        MovingExporter to = rig.Buffer("to", Size);
        RdmaMemoryRegion source = rig.Register(fromDevice, from, RdmaAccess.None);
        RdmaMemoryRegion target = rig.Register(toDevice, to, RdmaAccess.LocalWrite);
        var random = new Random(1);
        foreach ((int at, int into, int length) in s_shapes)
        {
            random.NextBytes(from.Region.Span(0, Size));
            random.NextBytes(to.Region.Span(0, Size));
            byte[] before = from.Region.Span(0, Size).ToArray();
            byte[] expected = to.Region.Span(0, Size).ToArray();
            before.AsSpan(at, length).CopyTo(expected.AsSpan(into));
            Assert.Equal(Errno.Ok, receiver.PostReceive(RdmaWorkRequest.Receive(5, target, into, Size - into)));
            Assert.Equal(Errno.Ok, sender.PostSend(RdmaWorkRequest.Send(6, source, at, length)));
            Assert.Equal(new RdmaCompletion(6, RdmaOpcode.Send, RdmaStatus.Success, length, sender.Number), Rig.Next(sender.SendCompletions));
            Assert.Equal(new RdmaCompletion(5, RdmaOpcode.Receive, RdmaStatus.Success, length, receiver.Number), Rig.Next(receiver.ReceiveCompletions));
            Assert.True(to.Region.Span(0, Size).SequenceEqual(expected), $"{at}+{length} into {into}: the receiver's memory is wrong");
            Assert.True(from.Region.Span(0, Size).SequenceEqual(before), $"{at}+{length} into {into}: the sender's memory has changed");
        }
    }

    private static void Rdma(Rig rig, RdmaOpcode opcode, RnicDevice nearDevice, RdmaQueuePair near, RnicDevice farDevice, RdmaQueuePair far)
    {
        bool isWrite = opcode == RdmaOpcode.RdmaWrite;
        MovingExporter here = rig.Buffer("here", Size);
        MovingExporter there = rig.Buffer("there", Size);
        RdmaMemoryRegion local = rig.Register(nearDevice, here, isWrite ? RdmaAccess.None : RdmaAccess.LocalWrite);
        RdmaMemoryRegion remote = rig.Register(farDevice, there, isWrite ? RdmaAccess.LocalWrite | RdmaAccess.RemoteWrite : RdmaAccess.RemoteRead);
        var random = new Random(2);
        foreach ((int at, int into, int length) in s_shapes)
        {
            random.NextBytes(here.Region.Span(0, Size));
            random.NextBytes(there.Region.Span(0, Size));
            (int nearOffset, int farOffset) = isWrite ? (at, into) : (into, at);
            byte[] nearExpected = here.Region.Span(0, Size).ToArray();
            byte[] farExpected = there.Region.Span(0, Size).ToArray();
            if (isWrite)
                nearExpected.AsSpan(at, length).CopyTo(farExpected.AsSpan(into));
            else
                farExpected.AsSpan(at, length).CopyTo(nearExpected.AsSpan(into));
            Assert.Equal(Errno.Ok, near.PostSend(new RdmaWorkRequest(9, opcode, local.LocalKey, nearOffset, length, remote.RemoteKey, farOffset)));
            Assert.Equal(new RdmaCompletion(9, opcode, RdmaStatus.Success, length, near.Number), Rig.Next(near.SendCompletions));
            Assert.True(here.Region.Span(0, Size).SequenceEqual(nearExpected), $"{at}+{length} into {into}: the near memory is wrong");
            Assert.True(there.Region.Span(0, Size).SequenceEqual(farExpected), $"{at}+{length} into {into}: the far memory is wrong");
        }

        Rig.AssertNothing(far.SendCompletions);
        Assert.Equal(RdmaQueuePairState.ReadyToSend, far.State);
    }
}
