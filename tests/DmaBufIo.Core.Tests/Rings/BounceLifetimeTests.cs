// Results are looked at when they are there.
#pragma warning disable xUnit1031
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Rings;
using DmaBufIo.Tests.House;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

/// <summary>Bounced requests while their buffer moves, their registration goes and their ring closes, and whoever waits for them. Alone, because the bytes that the CPU copies are counted for the whole process.</summary>
[Collection(nameof(AllocationTests))]
public sealed class BounceLifetimeTests
{
    private const int Piece = BounceStage.Piece;

    public static TheoryData<InvalidationDesign, bool> DesignsAndDirections => new()
    {
        { InvalidationDesign.Draining, false },
        { InvalidationDesign.Draining, true },
        { InvalidationDesign.Fenced, false },
        { InvalidationDesign.Fenced, true },
    };

    [Theory]
    [MemberData(nameof(DesignsAndDirections))]
    public void F7_T14_a_buffer_moves_only_when_bounced_requests_in_flight_have_copied_and_their_data_is_in_the_new_place(InvalidationDesign design, bool write)
    {
        using var stage = new BounceStage(design: design);
        byte[] expected = (write ? stage.Buffer(5, 3 * Piece) : stage.Store(0, 3 * Piece)).ToArray();
        stage.Device.Hold = true;
        if (write)
            stage.Stage.Write(3 * Piece, 5, 0);
        else
            stage.Stage.Read(3 * Piece, 5, 0);
        stage.Stage.Submit();
        Actor mover = Actor.Start("mover", () => stage.Stage.Exporter.Move());
        mover.UntilItWaitsFor(design == InvalidationDesign.Draining ? "drain of map" : "fence");
        Assert.Equal(0, stage.Stage.Exporter.Moves);
        stage.Device.Finish();
        Actor.Until(() => stage.Device.Held == 1, "the mover has reaped the first piece and given the device the second");
        Assert.Equal(0, stage.Stage.Exporter.Moves);

        // The owner does nothing: the mover copies, issues the rest, and goes on.
        Actor.Until(() => stage.Device.Finish() >= 0 && mover.IsDone, "the mover has ended");
        mover.Join();
        Assert.True((write ? stage.Store(0, 3 * Piece) : stage.Buffer(5, 3 * Piece)).SequenceEqual(expected), "the data is not where it belongs");
        Assert.Equal([new RingCompletion(1, Errno.Ok, 3 * Piece) { Bounce = BounceReason.NotMappable }], stage.Stage.Reap(1));
        Assert.Equal((1L, 3L * Piece), (stage.Stage.Exporter.Moves, stage.Copied));
        stage.Device.Hold = false;
        Assert.Equal(3 * Piece, stage.Stage.ReadOnce(3 * Piece, 5, 0).Bytes);
        Assert.Equal(2, stage.BounceToken.MapsMade);
    }

    [Fact]
    public void T18_the_reference_goes_after_the_copy_and_before_the_completion()
    {
        using var stage = new BounceStage(design: InvalidationDesign.Fenced);
        stage.Device.Hold = true;
        stage.Stage.Read(512, 9, 0);
        stage.Stage.Submit();
        stage.Stage.Invalidate();
        DmaFence fence = Assert.Single(stage.Stage.Exporter.Buffer.Reservation.Unsignaled(FenceUsage.Bookkeep));
        bool copied = false;
        fence.OnSignal(() => copied = stage.Buffer(9, 512).SequenceEqual(stage.Store(0, 512)));
        stage.Device.Finish();
        stage.Ring.Context.ReapAsVisitor();
        Assert.Equal((true, true, 512L), (fence.IsSignaled, copied, stage.Copied));
        stage.Stage.Reap(1);
    }

    [Fact]
    public void F7_a_place_that_the_exporter_gave_up_without_waiting_is_not_touched_and_the_request_ends_with_EIO()
    {
        using var stage = new BounceStage(register: false);
        using var pieces = new PieceExporter(8192);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = pieces.Buffer, File = stage.Stage.File });
        stage.Device.Hold = true;
        stage.Stage.Read(512, 0, 0);
        stage.Stage.Submit();
        pieces.Regions[0].MarkDead();
        Assert.Equal([new RingCompletion(1, Errno.EIO, 0) { Bounce = BounceReason.NotMappable }], stage.Stage.Drain());
        Assert.Equal(0, stage.Copied);
        stage.Ring.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken);
    }

    [Fact]
    public void R6_removing_with_bounced_requests_in_flight_and_parked_lets_them_end_and_the_tag_comes_last()
    {
        using var stage = new BounceStage(register: false, ring: BounceStage.Options with { BouncePoolSize = Piece });
        stage.Register(tag: 900);
        stage.Device.Hold = true;
        stage.Stage.Read(2 * Piece, 1, 0, 1);
        stage.Stage.Read(512, 65537, 0, 2);
        stage.Stage.Submit();
        RemovedBuffer removed = stage.Ring.RemoveBuffer(0);
        Assert.Null(removed.Token);
        Assert.False(removed.IsReleased);
        stage.Stage.Read(512, 1, 0, 3);
        stage.Stage.Submit();
        stage.Device.Hold = false;
        stage.Device.Finish();
        Assert.Equal([3UL, 1, 2, 900], stage.Stage.Reap(4).Select(static c => c.UserData));
        Assert.Equal(Errno.Ok, removed.WaitReleased(TestContext.Current.CancellationToken));
        Assert.True(removed.IsReleased && removed.BounceToken!.IsReleased);
        Assert.Equal((1, 0), (stage.Stage.Exporter.Buffer.References, stage.Stage.Exporter.Buffer.Attachments));
        Assert.True(stage.Buffer(1, 2 * Piece).SequenceEqual(stage.Store(0, 2 * Piece)));
    }

    [Theory]
    [InlineData(BufferMapping.Premapped)]
    [InlineData(BufferMapping.PerRequest)]
    public void T14_who_waits_for_a_removed_registration_reaps_its_bounced_requests_too(BufferMapping mapping)
    {
        using var stage = new Stage(register: false);
        using var memory = DmaBufIo.Memory.MemoryRegion.Allocate("own", 1 << 16);
        stage.Ring.RegisterBuffer(1, new BufferRegistration { Memory = memory, File = stage.File, Policy = TransferPolicy.AllowBounce, Mapping = mapping });
        Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 2, 512, 0, 1)); // unaligned
        Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 4096, 512, 0, 2));
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        RemovedBuffer removed = stage.Ring.RemoveBuffer(1);
        Assert.Equal(Errno.Ok, removed.WaitReleased(TestContext.Current.CancellationToken)); // nobody else reaps
        Assert.All(stage.Reap(2), static c => Assert.Equal((Errno.Ok, 512), (c.Status, c.Bytes)));
    }

    [Fact]
    public void R6_a_slot_goes_from_bounced_to_direct_and_back_while_requests_run_and_a_failed_replacement_leaves_it()
    {
        using var stage = new BounceStage();
        stage.Device.Hold = true;
        stage.Stage.Read(2 * Piece, 1, 0, 1);
        stage.Stage.Submit();
        stage.Device.TakesTokens = true;
        stage.Device.FailSetup = static () => BounceStage.Refusal(Errno.ENOMEM);
        Assert.Equal(Errno.ENOMEM, StageVerbs.Refusal(() => stage.Register()));
        Assert.NotNull(stage.BounceToken);
        stage.Device.FailSetup = null;
        stage.Register();
        stage.Stage.Read(512, 65536, 0, 2);
        stage.Stage.Submit();
        stage.Register(policy: TransferPolicy.Direct);
        Assert.Null(stage.Ring.BounceTokenAt(0));
        RingCompletion[] completions = [.. stage.Stage.Drain().OrderBy(static c => c.UserData)];
        Assert.Equal([new RingCompletion(1, Errno.Ok, 2 * Piece) { Bounce = BounceReason.NotMappable }, new RingCompletion(2, Errno.Ok, 512)], completions);
        Assert.True(stage.Buffer(1, 2 * Piece).SequenceEqual(stage.Store(0, 2 * Piece)));
        Assert.Equal(Errno.Ok, Stage.WaitFor(() => stage.Stage.Exporter.Buffer.References == 2 && stage.Device.LiveTokens == 1));
    }

    [Fact]
    public void R6_closing_the_ring_ends_bounced_requests_and_leaks_nothing()
    {
        using var stage = new BounceStage(register: false);
        var ring = new Ring(BounceStage.Options with { Name = "closing", BouncePoolSize = Piece });
        ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Stage.Exporter.Buffer, File = stage.Stage.File });
        stage.Device.Hold = true;
        for (ulong i = 0; i < 3; i++)
            Assert.True(ring.TryReadFixed(stage.Stage.File, 0, 1 + ((long)i * 65536), 2 * Piece, 0, i));
        ring.Submit(TestContext.Current.CancellationToken);
        Actor closer = Actor.Start("closer", ring.Dispose);
        Actor.Until(() => stage.Device.Finish() >= 0 && closer.IsDone, "the ring is closed");
        closer.Join();
        for (int i = 0; i < 3; i++)
            Assert.True(stage.Buffer(1 + (i * 65536), 2 * Piece).SequenceEqual(stage.Store(0, 2 * Piece)));
        Assert.Equal(Errno.Ok, Stage.WaitFor(() => (stage.Stage.File.References, stage.Stage.Exporter.Buffer.References) == (1, 1)));
        Assert.Equal(0, stage.Stage.Exporter.Buffer.Attachments);
    }

    [Fact]
    public void T7_a_ring_that_may_not_wait_answers_EAGAIN_until_somebody_has_made_the_CPUs_map()
    {
        using var stage = new BounceStage(ring: BounceStage.Options with { NoWait = true });
        Assert.Equal(new RingCompletion(1, Errno.EAGAIN, 0), stage.Stage.ReadOnce(512, 1, 0));
        using (var other = new IoContext("other"))
        {
            Assert.Equal(Errno.Ok, stage.BounceToken.GetMap(other, out DmaMap? map, TestContext.Current.CancellationToken));
            DmaBufToken.Drop(map!, other);
            other.Leave();
        }

        Assert.Equal(new RingCompletion(1, Errno.Ok, 512) { Bounce = BounceReason.NotMappable }, stage.Stage.ReadOnce(512, 1, 0));
        stage.AssertQuiet();
    }

    [Fact]
    public void Awaited_requests_tell_the_reason_and_end_with_EINTR_while_they_wait_for_a_piece()
    {
        using var stage = new BounceStage(ring: BounceStage.Options with { BouncePoolSize = Piece });
        using var cancel = new CancellationTokenSource();
        stage.Device.Hold = true;
        Task<IoStatus> first = stage.Ring.ReadFixedAsync(stage.Stage.File, 0, 1, Piece, 0, TestContext.Current.CancellationToken).AsTask();
        Task<IoStatus> parked = stage.Ring.WriteFixedAsync(stage.Stage.File, 0, 8193, Piece, 8192, cancel.Token).AsTask();
        stage.Stage.Submit();
        cancel.Cancel();
        stage.Stage.Drive(parked);
        Assert.Equal((Errno.EINTR, BounceReason.None, false), (parked.Result.Status, parked.Result.Bounce, first.IsCompleted));
        stage.Device.Hold = false;
        stage.Device.Finish();
        stage.Stage.Drive(first);
        Assert.Equal(new IoStatus(Errno.Ok, Piece) { Bounce = BounceReason.NotMappable }, first.Result);
        Assert.Equal((Piece, 1L), (stage.Copied, stage.Ring.Counters.Bounced));
        stage.AssertQuiet();
    }

    [Fact]
    public async Task A_ring_with_a_driver_thread_bounces_for_many_at_once()
    {
        using var stage = new BounceStage(ring: BounceStage.Options with { DriverThread = true, BouncePoolSize = 2 * Piece });
        Task<IoStatus>[] reads =
        [
            .. Enumerable.Range(0, 16).Select(i => stage.Ring.ReadFixedAsync(stage.Stage.File, 0, (i * 65536) + 3, 3 * Piece, i * 512, TestContext.Current.CancellationToken).AsTask()),
        ];
        Assert.All(await Task.WhenAll(reads), static r => Assert.Equal(new IoStatus(Errno.Ok, 3 * Piece) { Bounce = BounceReason.NotMappable }, r));
        for (int i = 0; i < 16; i++)
            Assert.True(stage.Buffer((i * 65536) + 3, 3 * Piece).SequenceEqual(stage.Store(i * 512, 3 * Piece)));
    }

    [Fact]
    public void T15_the_wait_for_the_CPUs_map_leaves_the_context_so_that_others_may_reap_it_and_can_be_interrupted()
    {
        using var stage = new BounceStage(BounceReason.None);
        Assert.Equal(Errno.Ok, stage.Stage.ReadOnce(512, 0, 0).Status);
        using var cancel = new CancellationTokenSource();
        stage.Device.Hold = true;
        stage.Stage.Read(512, 0, 0, 1);
        stage.Stage.Read(512, 4098, 512, 2);
        stage.Stage.Read(512, 8192, 1024, 3);
        Actor owner;
        using (ReservationGuard guard = stage.Stage.Exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            owner = Actor.Start("owner", () => stage.Ring.Submit(cancel.Token));
            owner.UntilItWaitsFor("b0");
            Assert.Equal(2, stage.Device.Held);
            stage.Device.Finish();
            Assert.Equal(2, stage.Stage.Exporter.Buffer.InvalidateMappings(guard.Held).Users);
            cancel.Cancel();
            owner.Join();
        }

        IEnumerable<(ulong, Errno)> ended = stage.Stage.Reap(3).Select(static c => (c.UserData, c.Status)).Order();
        Assert.Equal([(1UL, Errno.Ok), (2UL, Errno.EINTR), (3UL, Errno.Ok)], ended.ToArray());
        stage.AssertQuiet();
    }
}
