using DmaBufIo.Importers.Rnic.Hardware;
using DmaBufIo.Importers.Rnic.Tests.Harness;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Rdma;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Tests;

/// <summary>A buffer that moves at any moment of a message: nothing is lost, nothing waits but for a packet, and no old memory is touched.</summary>
public sealed class InvalidationTests
{
    private const int Size = 256 << 10;
    private const int Length = 100_001; // four packets
    private const RdmaAccess All = RdmaAccess.LocalWrite | RdmaAccess.RemoteRead | RdmaAccess.RemoteWrite;

    public static TheoryData<InvalidationDesign, RdmaOpcode, int, bool> Moments
    {
        get
        {
            var data = new TheoryData<InvalidationDesign, RdmaOpcode, int, bool>();
            foreach (InvalidationDesign design in Enum.GetValues<InvalidationDesign>())
            {
                foreach (RdmaOpcode opcode in new[] { RdmaOpcode.Send, RdmaOpcode.RdmaWrite, RdmaOpcode.RdmaRead })
                {
                    foreach (AccessStage stage in Enum.GetValues<AccessStage>())
                    {
                        data.Add(design, opcode, (int)stage, true);
                        data.Add(design, opcode, (int)stage, false);
                    }
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Moments))]
    public void T7_T15_F7_a_move_at_any_moment_of_a_message_loses_nothing_and_waits_for_a_packet_at_most(InvalidationDesign design, RdmaOpcode opcode, int stageNumber, bool isRead)
    {
        var stage = (AccessStage)stageNumber;
        using var rig = new Rig { Tokens = new TokenOptions { Design = design } };
        (RdmaQueuePair left, RdmaQueuePair right) = rig.Connect();
        MovingExporter near = rig.Buffer("near", Size);
        MovingExporter far = rig.Buffer("far", Size);
        RdmaMemoryRegion local = rig.Register(rig.Left, near, All);
        RdmaMemoryRegion remote = rig.Register(rig.Right, far, All);
        var request = new RdmaWorkRequest(1, opcode, local.LocalKey, 3, Length, remote.RemoteKey, 5);
        (MovingExporter from, int at, MovingExporter to, int into) = opcode == RdmaOpcode.RdmaRead ? (far, 5, near, 3) : (near, 3, far, 5);

        // Once through, so that both ends have maps.
        Transfer();
        Rig.AwaitWorkers(local, remote);
        new Random(stageNumber).NextBytes(from.Region.Span(0, Size));
        byte[] expected = to.Region.Span(0, Size).ToArray();
        from.Region.Span(at, Length).CopyTo(expected.AsSpan(into));
        MovingExporter moved = isRead ? from : to;
        DmaBufToken token = moved == near ? local.Token : remote.Token;
        Thread? mover = null;
        int hits = 0;
        rig.Left.Engine.Observer = (moment, seen, reads) =>
        {
            if (moment != stage || reads != isRead || ++hits != 2)
                return;
            Assert.Same(token, seen);
            mover = new Thread(() => moved.Move()) { Name = "mover" };
            mover.Start();
            if (stage == AccessStage.Held)
            {
                // The move has killed the map and waits for this packet.
                Assert.True(SpinWait.SpinUntil(() => token.LiveGeneration is null, Rig.Limit));
                Assert.False(mover.Join(20), "the move has not waited for the packet that is under way");
            }
            else
            {
                Assert.True(mover.Join(Rig.Limit), "the move waits for a message that holds no reference");
            }
        };
        Transfer();
        rig.Left.Engine.Observer = null;
        Assert.True(mover!.Join(Rig.Limit));
        Assert.Equal(1, moved.Moves);
        Assert.True(to.Region.Span(0, Size).SequenceEqual(expected), "the data is wrong");

        void Transfer()
        {
            if (opcode == RdmaOpcode.Send)
                right.PostReceive(RdmaWorkRequest.Receive(2, remote, 5, Length));
            left.PostSend(request);
            Assert.Equal(RdmaStatus.Success, Rig.Next(left.SendCompletions).Status);
            if (opcode == RdmaOpcode.Send)
                Assert.Equal(new RdmaCompletion(2, RdmaOpcode.Receive, RdmaStatus.Success, Length, right.Number), Rig.Next(right.ReceiveCompletions));
        }
    }

    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void T14_T15_a_buffer_with_posted_receives_and_waiting_sends_moves_at_once_on_the_thread_that_posted(InvalidationDesign design)
    {
        using var rig = new Rig { Tokens = new TokenOptions { Design = design } };
        (RdmaQueuePair left, RdmaQueuePair right) = rig.Connect();
        MovingExporter buffer = rig.Buffer("both", Size);
        RdmaMemoryRegion near = rig.Register(rig.Left, buffer, All);
        RdmaMemoryRegion far = rig.Register(rig.Right, buffer, All);
        left.PostSend(new RdmaWorkRequest(0, RdmaOpcode.RdmaWrite, near.LocalKey, 0, 4096, far.RemoteKey, 8192));
        Assert.Equal(RdmaStatus.Success, Rig.Next(left.SendCompletions).Status);
        left.PostReceive(RdmaWorkRequest.Receive(1, near, 0, 4096)); // nobody sends
        left.PostSend(RdmaWorkRequest.Send(2, near, 4096, 4096));    // nobody receives
        Rig.AssertNothing(left.SendCompletions);
        for (int i = 0; i < 5; i++)
            buffer.Move(Rig.Token);
        Assert.Equal(0, near.Token.LiveGeneration is null ? 0 : 1);
        buffer.Region.Span(4096, 4096).Fill(0x77);
        right.PostReceive(RdmaWorkRequest.Receive(3, far, 16384, 4096));
        Assert.Equal((2UL, RdmaStatus.Success), (Rig.Next(left.SendCompletions) is var c ? c.Id : 0, c.Status));
        Assert.Equal(4096, buffer.Region.Span(0, Size)[16384..20480].Count((byte)0x77));
        left.Disconnect();
        Assert.Equal((1UL, RdmaStatus.WorkRequestFlushed), (Rig.Next(left.SendCompletions) is var f ? f.Id : 0, f.Status));
    }

    [Fact]
    public void T12_a_message_that_finds_no_map_waits_for_the_exporters_lock_and_not_the_engine()
    {
        using var rig = new Rig();
        (RdmaQueuePair left, _) = rig.Connect();
        (RdmaQueuePair other, _) = rig.Connect();
        MovingExporter held = rig.Buffer("held", Size);
        RdmaMemoryRegion near = rig.Register(rig.Left, held, All);
        RdmaMemoryRegion free = rig.Register(rig.Left, rig.Buffer("free", Size), All);
        RdmaMemoryRegion far = rig.Register(rig.Right, rig.Buffer("far", Size), All);
        using (held.Buffer.Reservation.Lock(null, Rig.Token))
        {
            left.PostSend(new RdmaWorkRequest(1, RdmaOpcode.RdmaWrite, near.LocalKey, 0, 4096, far.RemoteKey));
            Rig.AssertNothing(left.SendCompletions);

            // Others go on meanwhile, through the same engine and the same peer.
            other.PostSend(new RdmaWorkRequest(2, RdmaOpcode.RdmaWrite, free.LocalKey, 0, 4096, far.RemoteKey));
            Assert.Equal(2UL, Rig.Next(other.SendCompletions).Id);
            Rig.AssertNothing(left.SendCompletions);
            Assert.Equal(0, near.Token.MapsMade);
        }

        Assert.Equal((1UL, RdmaStatus.Success), (Rig.Next(left.SendCompletions) is var c ? c.Id : 0, c.Status));
        Assert.Equal(1, near.Token.MapsMade);
    }

    [Fact]
    public void A_buffer_in_pieces_is_reached_piece_by_piece()
    {
        using var rig = new Rig();
        (RdmaQueuePair left, _) = rig.Connect();
        var exporter = new StubbornExporter("pieces", Size) { IsStubborn = false };
        RdmaMemoryRegion pieces = rig.Left.RegisterMemory(exporter.Buffer, All);
        MovingExporter far = rig.Buffer("far", Size);
        RdmaMemoryRegion remote = rig.Register(rig.Right, far, All);
        new Random(5).NextBytes(far.Region.Span(0, Size));
        left.PostSend(new RdmaWorkRequest(1, RdmaOpcode.RdmaRead, pieces.LocalKey, 4000, 50_000, remote.RemoteKey, 77));
        Assert.Equal(RdmaStatus.Success, Rig.Next(left.SendCompletions).Status);
        for (int i = 0; i < 50_000; i++)
        {
            // The pages come in the reverse order.
            int at = 4000 + i;
            Assert.Equal(far.Region.Span(77 + i, 1)[0], exporter.Memory.Span(Size - 4096 - (at & ~4095) + (at & 4095), 1)[0]);
        }

        pieces.Deregister(Rig.Token);
        exporter.Buffer.Put();
    }
}
