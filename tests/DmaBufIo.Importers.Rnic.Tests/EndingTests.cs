using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Hardware;
using DmaBufIo.Importers.Rnic.Queues;
using DmaBufIo.Importers.Rnic.Tests.Harness;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Rdma;

namespace DmaBufIo.Importers.Rnic.Tests;

/// <summary>How connections, requests, regions and cards end: every request once, in order, with a status that says why.</summary>
public sealed class EndingTests
{
    private const int Size = 128 << 10;
    private const RdmaAccess All = RdmaAccess.LocalWrite | RdmaAccess.RemoteRead | RdmaAccess.RemoteWrite;

    [Fact]
    public void A_message_longer_than_its_receive_is_a_length_error_at_both_ends()
    {
        using var rig = new Rig();
        (RdmaQueuePair left, RdmaQueuePair right, RdmaMemoryRegion near, RdmaMemoryRegion far) = Scene(rig);
        Assert.Equal(Errno.Ok, right.PostReceive(RdmaWorkRequest.Receive(1, far, 0, 4095)));
        Assert.Equal(Errno.Ok, right.PostReceive(RdmaWorkRequest.Receive(2, far, 0, 4096)));
        Assert.Equal(Errno.Ok, left.PostSend(RdmaWorkRequest.Send(3, near, 0, 4096)));
        AssertEnds(right.ReceiveCompletions, (1, RdmaStatus.LocalLengthError), (2, RdmaStatus.WorkRequestFlushed));
        AssertEnds(left.SendCompletions, (3, RdmaStatus.RemoteInvalidRequest));
        Assert.Equal((RdmaQueuePairState.Error, RdmaQueuePairState.Error), (left.State, right.State));
    }

    [Fact]
    public void Everything_posted_is_flushed_in_order_and_what_is_posted_later_too()
    {
        using var rig = new Rig();
        (RdmaQueuePair left, RdmaQueuePair right, RdmaMemoryRegion near, RdmaMemoryRegion far) = Scene(rig);
        for (ulong i = 0; i < 5; i++)
        {
            left.PostSend(RdmaWorkRequest.Send(i, near, 0, 8));
            left.PostReceive(RdmaWorkRequest.Receive(10 + i, near, 0, 0));
            right.PostSend(RdmaWorkRequest.Send(20 + i, far, 0, 8));
        }

        left.Disconnect();
        left.Disconnect();
        AssertEnds(left.SendCompletions, [.. Enumerable.Range(0, 5).Select(static i => ((ulong)i, RdmaStatus.WorkRequestFlushed)), .. Enumerable.Range(10, 5).Select(static i => ((ulong)i, RdmaStatus.WorkRequestFlushed))]);

        // To the other end the peer is gone: the message it was about to send was not acknowledged.
        AssertEnds(right.SendCompletions, [(20, RdmaStatus.RetryExceeded), .. Enumerable.Range(21, 4).Select(static i => ((ulong)i, RdmaStatus.WorkRequestFlushed))]);
        Assert.Equal((Errno.ECANCELED, Errno.ECONNRESET), (left.Reason, right.Reason));
        foreach (RdmaQueuePair pair in new[] { left, right })
        {
            Assert.Equal(Errno.Ok, pair.PostSend(RdmaWorkRequest.Send(30, near, 0, 8)));
            AssertEnds(pair.SendCompletions, (30, RdmaStatus.WorkRequestFlushed));
            Assert.Equal(Errno.Ok, pair.PostReceive(RdmaWorkRequest.Receive(31, near, 0, 8)));
            AssertEnds(pair.ReceiveCompletions, (31, RdmaStatus.WorkRequestFlushed));
        }
    }

    [Fact]
    public void A_send_waits_for_a_receive_and_nothing_behind_it_overtakes()
    {
        using var rig = new Rig();
        (RdmaQueuePair left, RdmaQueuePair right, RdmaMemoryRegion near, RdmaMemoryRegion far) = Scene(rig);
        left.PostSend(RdmaWorkRequest.Send(1, near, 0, 8));
        left.PostSend(new RdmaWorkRequest(2, RdmaOpcode.RdmaWrite, near.LocalKey, 0, 8, far.RemoteKey));
        Rig.AssertNothing(left.SendCompletions);
        right.PostReceive(RdmaWorkRequest.Receive(3, far, 0, 8));
        AssertEnds(left.SendCompletions, (1, RdmaStatus.Success), (2, RdmaStatus.Success));
        AssertEnds(right.ReceiveCompletions, (3, RdmaStatus.Success));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_receiver_that_is_not_ready_in_time_ends_the_connection(bool ownThread)
    {
        using var rig = new Rig(ownThread);
        (RdmaQueuePair left, RdmaQueuePair right, RdmaMemoryRegion near, _) = Scene(rig, new RdmaQueuePairOptions { RnrTimeout = TimeSpan.FromMilliseconds(30) });
        left.PostSend(RdmaWorkRequest.Send(1, near, 0, 8));
        left.PostSend(RdmaWorkRequest.Send(2, near, 0, 8));
        AssertEnds(left.SendCompletions, (1, RdmaStatus.RnrRetryExceeded), (2, RdmaStatus.WorkRequestFlushed));
        Assert.Equal(RdmaQueuePairState.Error, right.State);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_send_waits_for_a_peer_that_connects_later_but_not_for_ever(bool ownThread)
    {
        using var rig = new Rig(ownThread);
        (_, _, RdmaMemoryRegion near, RdmaMemoryRegion far) = Scene(rig);
        RdmaQueuePair left = rig.Pair(rig.Left);
        RdmaQueuePair right = rig.Pair(rig.Right);
        Assert.Equal(Errno.ENOTCONN, left.PostSend(RdmaWorkRequest.Send(1, near, 0, 8)));
        Assert.Equal(Errno.Ok, right.PostReceive(RdmaWorkRequest.Receive(2, far, 0, 8)));
        left.Connect(right.Address);
        Assert.Equal(RdmaQueuePairState.ReadyToReceive, left.State);
        Assert.Equal(Errno.Ok, left.PostSend(RdmaWorkRequest.Send(1, near, 0, 8)));
        Rig.AssertNothing(left.SendCompletions);
        right.Connect(left.Address);
        AssertEnds(left.SendCompletions, (1, RdmaStatus.Success));

        RdmaQueuePair alone = rig.Pair(rig.Left, new RdmaQueuePairOptions { RetryTimeout = TimeSpan.FromMilliseconds(30) });
        alone.Connect(new RdmaAddress("right", 99));
        alone.PostSend(RdmaWorkRequest.Send(3, near, 0, 8));
        AssertEnds(alone.SendCompletions, (3, RdmaStatus.RetryExceeded));
        Assert.Equal(Errno.ECONNRESET, alone.Reason);
    }

    [Fact]
    public void Connecting_is_refused_with_a_reason()
    {
        using var rig = new Rig();
        (RdmaQueuePair left, RdmaQueuePair right) = rig.Connect();
        Assert.Equal(Errno.EISCONN, Assert.Throws<DmaBufIoException>(() => left.Connect(right.Address)).Errno);
        RdmaQueuePair other = rig.Pair(rig.Left);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => other.Connect(other.Address)).Errno);
        Assert.Equal(Errno.ENXIO, Assert.Throws<DmaBufIoException>(() => other.Connect(new RdmaAddress("nowhere", 1))).Errno);
        other.Disconnect();
        Assert.Equal(Errno.ECONNRESET, Assert.Throws<DmaBufIoException>(() => other.Connect(right.Address)).Errno);
        Assert.Equal(Errno.EINVAL, left.PostSend(new RdmaWorkRequest(1, RdmaOpcode.Receive, 0, 0, 0)));
        Assert.Equal(Errno.EINVAL, left.PostReceive(new RdmaWorkRequest(1, RdmaOpcode.Send, 0, 0, 0)));
        Assert.Equal(Errno.EINVAL, left.PostSend(new RdmaWorkRequest(1, RdmaOpcode.Send, 0, 0, -1)));
        Assert.Equal(Errno.EEXIST, Assert.Throws<DmaBufIoException>(() => new RnicDevice(new RnicOptions { Name = "left" }, rig.Wire, rig.Iommu)).Errno);
    }

    [Theory]
    [InlineData(false, true)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    public void T11_a_card_that_is_removed_ends_the_requests_of_both_ends(bool ownThread, bool senderGoes)
    {
        using var rig = new Rig(ownThread);
        (RdmaQueuePair left, RdmaQueuePair right, RdmaMemoryRegion near, RdmaMemoryRegion far) = Scene(rig);
        right.PostReceive(RdmaWorkRequest.Receive(0, far, 0, 8));
        left.PostSend(RdmaWorkRequest.Send(0, near, 0, 8));
        AssertEnds(left.SendCompletions, (0, RdmaStatus.Success));
        AssertEnds(right.ReceiveCompletions, (0, RdmaStatus.Success));

        // In flight: sends that wait for receives at one end, receives that wait for messages at the other.
        for (ulong i = 1; i <= 3; i++)
        {
            left.PostSend(RdmaWorkRequest.Send(i, near, 0, 8));
            left.PostReceive(RdmaWorkRequest.Receive(10 + i, near, 0, 8));
        }

        (senderGoes ? rig.Left : rig.Right).Dispose();
        RdmaStatus first = senderGoes ? RdmaStatus.WorkRequestFlushed : RdmaStatus.RetryExceeded;
        AssertEnds(
            left.SendCompletions,
            (1, first),
            (2, RdmaStatus.WorkRequestFlushed), (3, RdmaStatus.WorkRequestFlushed), (11, RdmaStatus.WorkRequestFlushed), (12, RdmaStatus.WorkRequestFlushed), (13, RdmaStatus.WorkRequestFlushed));
        Assert.Equal(senderGoes ? (Errno.ENODEV, Errno.ECONNRESET) : (Errno.ECONNRESET, Errno.ENODEV), (left.Reason, right.Reason));

        // The card is gone for good, what it had is mapped nowhere, and what is posted ends at once.
        (RdmaQueuePair gone, RnicDevice card, RdmaMemoryRegion region) = senderGoes ? (left, rig.Left, near) : (right, rig.Right, far);
        Assert.Equal((null, 0), (region.Token.LiveGeneration, region.Token.Maps));
        gone.PostReceive(RdmaWorkRequest.Receive(20, region, 0, 8));
        AssertEnds(gone.ReceiveCompletions, (20, RdmaStatus.WorkRequestFlushed));
        Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => card.CreateQueuePair()).Errno);
        Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => card.CreateCompletionQueue(1)).Errno);
        Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => card.RegisterMemory(region.Buffer, All)).Errno);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void T11_a_card_that_is_removed_in_the_middle_of_messages_waits_for_a_packet_and_not_for_the_message(bool senderGoes)
    {
        using var rig = new Rig();
        (RdmaQueuePair left, RdmaQueuePair right, RdmaMemoryRegion near, RdmaMemoryRegion far) = Scene(rig);
        for (ulong i = 0; i < 8; i++)
        {
            right.PostReceive(RdmaWorkRequest.Receive(i, far, 0, Size));
            left.PostSend(RdmaWorkRequest.Send(i, near, 0, Size));
        }

        RnicDevice card = senderGoes ? rig.Left : rig.Right;
        Thread? remover = null;
        int packets = 0;
        rig.Left.Engine.Observer = (stage, _, isRead) =>
        {
            if (stage != AccessStage.Held || isRead || ++packets != 7)
                return;
            remover = new Thread(card.Dispose) { Name = "remover" };
            remover.Start();
            Assert.True(SpinWait.SpinUntil(() => ((RnicQueuePair)left).IsWanted, Rig.Limit));
        };
        RdmaCompletion[] sends = Rig.Next(left.SendCompletions, 8);
        RdmaCompletion[] receives = Rig.Next(right.ReceiveCompletions, 8);
        Assert.True(remover!.Join(Rig.Limit), "the removal waits for something");
        int done = sends.Count(static c => c.Status == RdmaStatus.Success);
        Assert.Equal(1, done); // four packets each
        Assert.Equal(done, receives.Count(static c => c.Status == RdmaStatus.Success));
        Assert.Equal(Enumerable.Range(0, 8).Select(static i => (ulong)i), sends.Select(static c => c.Id));
        Assert.Equal(Enumerable.Range(0, 8).Select(static i => (ulong)i), receives.Select(static c => c.Id));
        Assert.All(receives[done..], static c => Assert.Equal(RdmaStatus.WorkRequestFlushed, c.Status));
    }

    [Fact]
    public void T11_a_reset_ends_requests_kills_maps_and_leaves_the_regions_usable()
    {
        using var rig = new Rig();
        (RdmaQueuePair left, RdmaQueuePair right, RdmaMemoryRegion near, RdmaMemoryRegion far) = Scene(rig);
        left.PostSend(new RdmaWorkRequest(1, RdmaOpcode.RdmaWrite, near.LocalKey, 0, 8, far.RemoteKey));
        AssertEnds(left.SendCompletions, (1, RdmaStatus.Success));
        left.PostSend(RdmaWorkRequest.Send(2, near, 0, 8));
        Assert.NotNull(near.Token.LiveGeneration);
        rig.Left.Reset();
        AssertEnds(left.SendCompletions, (2, RdmaStatus.WorkRequestFlushed));
        Assert.Equal((Errno.ECANCELED, Errno.ECONNRESET), (left.Reason, right.Reason));
        Assert.Null(near.Token.LiveGeneration);
        (RdmaQueuePair again, _) = rig.Connect();
        again.PostSend(new RdmaWorkRequest(3, RdmaOpcode.RdmaRead, near.LocalKey, 0, 8, far.RemoteKey));
        AssertEnds(again.SendCompletions, (3, RdmaStatus.Success));
    }

    [Fact]
    public void A_region_that_posted_requests_name_is_not_deregistered_and_goes_on_working()
    {
        using var rig = new Rig();
        (RdmaQueuePair left, RdmaQueuePair right, RdmaMemoryRegion near, RdmaMemoryRegion far) = Scene(rig);
        right.PostReceive(RdmaWorkRequest.Receive(1, far, 0, 8));
        DmaBufIoException busy = Assert.Throws<DmaBufIoException>(() => far.Deregister(Rig.Token));
        Assert.Equal(Errno.EBUSY, busy.Errno);
        Assert.Contains("right/1", busy.Message, StringComparison.Ordinal);
        Assert.False(far.IsDeregistered);
        left.PostSend(RdmaWorkRequest.Send(2, near, 0, 8));
        AssertEnds(left.SendCompletions, (2, RdmaStatus.Success));
        near.Deregister(Rig.Token); // its request has ended
        right.PostReceive(RdmaWorkRequest.Receive(3, far, 0, 8));
        right.Disconnect();
        far.Deregister(Rig.Token); // flushed
        AssertEnds(right.ReceiveCompletions, (1, RdmaStatus.Success), (3, RdmaStatus.WorkRequestFlushed));
    }

    [Theory]
    [InlineData(RdmaOpcode.RdmaWrite)]
    [InlineData(RdmaOpcode.RdmaRead)]
    public void A_region_that_a_peer_is_using_is_deregistered_between_two_packets_and_the_peer_is_told(RdmaOpcode opcode)
    {
        using var rig = new Rig();
        (RdmaQueuePair left, _, RdmaMemoryRegion near, RdmaMemoryRegion far) = Scene(rig);
        Thread? other = null;
        int packets = 0;
        rig.Left.Engine.Observer = (stage, token, _) =>
        {
            if (stage != AccessStage.Held || token != far.Token || ++packets != 2)
                return;
            other = new Thread(() => far.Deregister()) { Name = "other" };
            other.Start();

            // It cannot get through while the packet is under way.
            Assert.True(SpinWait.SpinUntil(() => ((RnicQueuePair)left).IsWanted, Rig.Limit));
            Assert.False(far.IsDeregistered);
        };
        left.PostSend(new RdmaWorkRequest(1, opcode, near.LocalKey, 0, Size, far.RemoteKey));
        AssertEnds(left.SendCompletions, (1, RdmaStatus.RemoteAccessError));
        Assert.True(other!.Join(Rig.Limit));
        Assert.Equal(2, packets);
        Assert.True(far.Token.IsReleased);
    }

    [Fact]
    public void Memory_that_cannot_be_mapped_is_an_error_at_the_end_that_has_it()
    {
        using var rig = new Rig();
        (_, _, RdmaMemoryRegion near, RdmaMemoryRegion far) = Scene(rig);
        var exporter = new StubbornExporter("stubborn", 4096);
        RdmaMemoryRegion here = rig.Left.RegisterMemory(exporter.Buffer, All);
        RdmaMemoryRegion there = rig.Right.RegisterMemory(exporter.Buffer, All);
        (RdmaQueuePair left, _) = rig.Connect();
        left.PostSend(new RdmaWorkRequest(1, RdmaOpcode.RdmaWrite, here.LocalKey, 0, 8, far.RemoteKey));
        AssertEnds(left.SendCompletions, (1, RdmaStatus.LocalProtectionError));
        (left, _) = rig.Connect();
        left.PostSend(new RdmaWorkRequest(2, RdmaOpcode.RdmaRead, near.LocalKey, 0, 8, there.RemoteKey));
        AssertEnds(left.SendCompletions, (2, RdmaStatus.RemoteOperationError));
        (left, RdmaQueuePair right) = rig.Connect();
        right.PostReceive(RdmaWorkRequest.Receive(3, there, 0, 8));
        left.PostSend(RdmaWorkRequest.Send(4, near, 0, 8));
        AssertEnds(left.SendCompletions, (4, RdmaStatus.RemoteOperationError));
        AssertEnds(right.ReceiveCompletions, (3, RdmaStatus.LocalProtectionError));

        // It was the exporter's mood: the next connection finds it better.
        exporter.IsStubborn = false;
        (left, _) = rig.Connect();
        left.PostSend(new RdmaWorkRequest(5, RdmaOpcode.RdmaWrite, here.LocalKey, 0, 8, far.RemoteKey));
        AssertEnds(left.SendCompletions, (5, RdmaStatus.Success));
        here.Deregister(Rig.Token);
        there.Deregister(Rig.Token);
        exporter.Buffer.Put();
    }

    private static (RdmaQueuePair Left, RdmaQueuePair Right, RdmaMemoryRegion Near, RdmaMemoryRegion Far) Scene(Rig rig, RdmaQueuePairOptions? options = null)
    {
        (RdmaQueuePair left, RdmaQueuePair right) = rig.Connect(options);
        return (left, right, rig.Register(rig.Left, rig.Buffer("near", Size), All), rig.Register(rig.Right, rig.Buffer("far", Size), All));
    }

    private static void AssertEnds(RdmaCompletionQueue queue, params (ulong Id, RdmaStatus Status)[] expected)
    {
        Assert.Equal(expected, Rig.Next(queue, expected.Length).Select(static c => (c.Id, c.Status)));
        Rig.AssertNothing(queue);
    }
}
