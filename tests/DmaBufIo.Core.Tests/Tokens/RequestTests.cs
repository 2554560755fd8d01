using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Rings;
using DmaBufIo.Sync;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.TokenTests;

/// <summary>T14, T15, T16, T18: what a request does with its one reference.</summary>
public sealed class RequestTests
{
    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void T14_another_thread_may_move_the_buffer_while_the_rings_owner_is_idle(InvalidationDesign design)
    {
        using var stage = new Stage(new TokenOptions { Design = design });
        Submitted(stage, 8);
        InvalidationReport report = default;

        // Nobody reaps: this thread, the owner, does nothing until the move is done.
        Actor mover = Actor.Start("mover", () => report = stage.Exporter.Move());
        mover.Join();
        Assert.Equal(new InvalidationReport(1, 8), report);
        Assert.Equal(0, stage.Ring.InFlight);
        Assert.All(stage.Reap(8), static c => Assert.Equal((Errno.Ok, 4096L), (c.Status, c.Bytes)));
    }

    [Fact]
    public void T14_a_buffer_may_move_while_the_rings_owner_waits_for_another_buffers_lock_that_the_mover_holds()
    {
        using var stage = new Stage();
        MovingExporter other = MovingExporter.Create("b1", Stage.BufferSize);
        stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = other.Buffer, File = stage.File });
        Actor owner;
        InvalidationReport report;
        using (other.Buffer.Reservation.Hold())
        {
            owner = Actor.Start("owner", () =>
            {
                for (int i = 0; i < 8; i++)
                    stage.Read(4096, i * 4096, i * 4096, (ulong)i);
                Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 0, 4096, 0, 8));
                stage.Ring.Submit(TestContext.Current.CancellationToken);
            });
            owner.UntilItWaitsFor("reservation lock of b1");
            using ReservationGuard guard = stage.Exporter.Buffer.Reservation.Hold();
            report = stage.Exporter.Buffer.InvalidateMappings(guard.Held);
        }

        owner.Join();
        Assert.Equal(new InvalidationReport(1, 8), report);
        Assert.All(stage.Reap(9), static c => Assert.Equal(Errno.Ok, c.Status));
        stage.Ring.RemoveBuffer(1).WaitReleased(TestContext.Current.CancellationToken);
        other.Buffer.Put();
    }

    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void D2c_an_owner_that_waits_for_a_map_of_its_new_registration_reaps_the_requests_of_the_old_one(InvalidationDesign design)
    {
        using var stage = new Stage(new TokenOptions { Design = design });
        Submitted(stage, 8);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File });
        Actor exporter;
        using (ReservationGuard guard = stage.Exporter.Buffer.Reservation.Hold())
        {
            if (design == InvalidationDesign.Fenced)
            {
                // The fence of the old registration's map: its requests are completed and sit in the queues of the thread that waits
                // for it.
                Assert.Equal(new InvalidationReport(1, 8), stage.Exporter.Buffer.InvalidateMappings(guard.Held));
            }

            exporter = Actor.Start("exporter", () => stage.Exporter.Move());
            exporter.UntilItWaitsFor("reservation lock of b0");
        }

        stage.Read(userData: 8);
        Assert.All(stage.Run().Concat(stage.Reap(8)), static c => Assert.Equal(Errno.Ok, c.Status));
        exporter.Join();
    }

    [Fact]
    public void T14_an_owner_that_needs_a_new_map_reaps_its_own_requests_on_the_old_one()
    {
        using var stage = new Stage();
        Submitted(stage, 8);
        stage.Token.KillMaps();
        stage.Read(userData: 8);
        Assert.All(stage.Run().Concat(stage.Reap(8)), static c => Assert.Equal(Errno.Ok, c.Status));
        Assert.Equal(2, stage.Token.MapsMade);
    }

    [Fact]
    public void T14_reaping_for_another_hands_out_no_completion()
    {
        using var stage = new Stage();
        Submitted(stage, 4);
        Actor mover = Actor.Start("mover", () => stage.Exporter.Move());
        mover.Join();

        // References are gone, completions are not: they wait for the owner.
        Assert.Equal((0, 32 - 4), (stage.Ring.InFlight, stage.Ring.Room));
        Assert.Equal(4, stage.Ring.Reap(new RingCompletion[8]));
    }

    [Theory]
    [InlineData("reservation lock")]
    [InlineData("free sleeping mutex")]
    [InlineData("completed completion")]
    [InlineData("wait queue")]
    [InlineData("work queue")]
    [InlineData("idle reservation object")]
    [InlineData("signalled fence")]
    [InlineData("visit")]
    [InlineData("drain")]
    [InlineData("invalidation of a live map")]
    [InlineData("release of a token")]
    [InlineData("new map")]
    public void T15_a_thread_that_holds_references_is_refused_every_wait_also_one_that_would_not_block(string primitive)
    {
        using var stage = new TokenStage();
        using var visited = new IoContext("visited");
        using var workers = new WorkQueue("workers", 1);
        var done = new Completion();
        done.Complete();
        var signalled = new DmaFence("signalled", DmaFence.NewContext(), 1);
        signalled.Signal();
        var gate = new RequestGate(1, static () => { });
        var mutex = new SleepingMutex("mutex");
        CancellationToken token = TestContext.Current.CancellationToken;
        DmaMap map = stage.Take();
        Action wait = primitive switch
        {
            "reservation lock" => () => stage.Buffer.Reservation.TryLock(out _, null, token),
            "free sleeping mutex" => () => mutex.Lock(token),
            "completed completion" => () => done.Wait(new WaitReason("completion"), token),
            "wait queue" => () => new WaitQueue().Wait(static () => true, new WaitReason("queue"), token),
            "work queue" => () => workers.Flush(token),
            "idle reservation object" => () => stage.Buffer.Reservation.Wait(FenceUsage.Kernel, token),
            "signalled fence" => () => signalled.Wait(token),
            "visit" => () => visited.Visit(static () => { }),
            "drain" => () => GateDrain.Drain(gate, new WaitReason("drain"), token),
            "invalidation of a live map" => () => stage.Invalidate(),
            "release of a token" => () => stage.Token.WaitReleased(token),
            "new map" => () => stage.Token.GetMap(visited, out _, token),
            _ => throw new ArgumentOutOfRangeException(nameof(primitive)),
        };
        stage.Context.Enter();
        DmaBufIoException refused;
        try
        {
            refused = Assert.Throws<DmaBufIoException>(wait);
        }
        finally
        {
            stage.Context.Leave();
        }

        Assert.Equal((Errno.EDEADLK, "T15"), (refused.Errno, refused.Rule));
        Assert.False(mutex.IsHeld || stage.Buffer.Reservation.IsLocked);
        stage.Drop(map);
    }

    [Fact]
    public void T15_no_reference_is_held_while_a_map_is_made()
    {
        using var stage = new Stage();
        bool inside = true;
        stage.Device.InMap = () => inside = NoSleepContext.IsActive || stage.Ring.Context.IsActive;
        stage.Read();
        stage.Run();
        Assert.False(inside);
    }

    [Fact]
    public void T16_a_request_holds_one_reference_however_many_children_it_has()
    {
        using var stage = new Stage(limits: new QueueLimits(512) { MaxBytes = 4096 });
        stage.Device.Hold = true;
        stage.Read(16 * 4096);
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        Assert.Equal(16, stage.Device.Held);
        Assert.Equal(1, Users(stage));
        for (int i = 0; i < 15; i++)
        {
            stage.Device.Finish(1);
            Assert.Equal(0, stage.Ring.Reap(new RingCompletion[1]));
            Assert.Equal(1, Users(stage));
        }

        stage.Device.Finish();
        Assert.Equal(new RingCompletion(1, Errno.Ok, 16 * 4096), Assert.Single(stage.Reap(1)));
        Assert.Equal(0, Users(stage));
    }

    [Fact]
    public void T16_a_request_that_finds_the_queue_full_is_parked_without_a_reference_and_a_drain_does_not_wait_for_it()
    {
        using var stage = new Stage();
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 2;
        for (ulong i = 0; i < 6; i++)
            stage.Read(4096, (long)i * 4096, 0, i);
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        Assert.Equal((6, 2), (stage.Ring.InFlight, Users(stage)));
        stage.Device.Finish();

        // Two have ended, four are parked: the move goes on without them.
        Assert.Equal(new InvalidationReport(1, 2), stage.Exporter.Move(TestContext.Current.CancellationToken));
        Assert.Equal(4, stage.Ring.InFlight);
        stage.Device.Hold = false;
        RingCompletion[] ended = stage.Reap(6);
        Assert.All(ended, static c => Assert.Equal((Errno.Ok, 4096L), (c.Status, c.Bytes)));
        Assert.Equal<ulong>([0, 1, 2, 3, 4, 5], ended.Select(static c => c.UserData).Order());
        Assert.Equal(2, stage.Token.MapsMade);
        Assert.True(stage.Ring.Counters.Reissued > 0);
    }

    [Fact]
    public void T16_after_its_first_child_a_request_goes_on_and_no_child_is_issued_twice()
    {
        using var stage = new Stage(limits: new QueueLimits(512) { MaxBytes = 4096 });
        Random.Shared.NextBytes(stage.Device.Store);
        stage.Device.QueueDepth = 3;
        stage.Device.Hold = true;
        stage.Read(16 * 4096, 0, 65536);
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        Assert.Equal((3, 1), (stage.Device.Held, Users(stage)));

        // The rest is issued by whoever drains: the request keeps its reference until its last child.
        Actor mover = Actor.Start("mover", () => stage.Exporter.Move());
        int children = 0;
        Actor.Until(
            () =>
            {
                children += stage.Device.Finish(1);
                return mover.IsDone;
            },
            "the buffer moves");
        mover.Join();
        Assert.Equal(new RingCompletion(1, Errno.Ok, 16 * 4096), Assert.Single(stage.Reap(1)));
        Assert.Equal((16, 1L), (children, stage.Token.MapsMade));
        Assert.True(stage.Exporter.Region.Span(0, 16 * 4096).SequenceEqual(stage.Device.Store.Slice(65536, 16 * 4096)));
    }

    [Fact]
    public void T16_out_of_bios_is_out_of_room()
    {
        using var stage = new Stage(
            ring: new RingOptions { Name = "few bios", Entries = 4, Bios = 4 },
            limits: new QueueLimits(512) { MaxBytes = 4096 });
        stage.Device.Hold = true;
        stage.Read(4 * 4096, userData: 1);
        stage.Read(4 * 4096, userData: 2);
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        Assert.Equal((2, 1), (stage.Ring.InFlight, Users(stage)));
        stage.Device.Hold = false;
        stage.Device.Finish();
        Assert.Equal<ulong>([1, 2], stage.Reap(2).Select(static c => c.UserData).Order());
    }

    [Fact]
    public void T18_the_reference_is_dropped_before_the_completion_can_be_seen()
    {
        using var stage = new Stage();
        Submitted(stage, 4);

        // All four have ended on the device; one completion is taken, and none of the four holds a reference any more.
        Assert.Equal(1, stage.Ring.Reap(new RingCompletion[1]));
        Assert.Equal(0, Users(stage));
        Assert.Equal(3, stage.Reap(3).Length);
    }

    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void T18_whoever_has_seen_a_completion_may_invalidate_without_meeting_its_reference(InvalidationDesign design)
    {
        using var stage = new Stage(new TokenOptions { Design = design });
        stage.Device.Hold = true;
        for (ulong i = 0; i < 2; i++)
            stage.Read(4096, (long)i * 4096, 0, i);
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        stage.Device.Finish(1);
        Assert.Single(stage.Reap(1));
        stage.Device.Finish(1);
        using (ReservationGuard guard = stage.Exporter.Buffer.Reservation.Hold())
            Assert.Equal(new InvalidationReport(1, 1), stage.Exporter.Buffer.InvalidateMappings(guard.Held));
        Assert.Single(stage.Reap(1));
    }

    private static void Submitted(Stage stage, int count)
    {
        for (int i = 0; i < count; i++)
            stage.Read(4096, i * 4096, i * 4096, (ulong)i);
        Assert.Equal(count, stage.Ring.Submit(TestContext.Current.CancellationToken));
    }

    private static long Users(Stage stage) => DmaBufIoDiagnostics.Snapshot().Tokens.Single(t => t.Token == stage.Token.Name).Users;
}
