using DmaBufIo.Block;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

public sealed class TryAgainRuleTests
{
    private static readonly RingOptions s_noWait = new() { Name = "nowait", Entries = 8, NoWait = true };

    [Fact]
    public void R4_a_ring_that_may_not_wait_answers_EAGAIN_when_there_is_no_map()
    {
        using var stage = new Stage(ring: s_noWait);
        int bios = 0;
        stage.Device.OnSubmit = _ => bios++;
        Assert.Equal(new RingCompletion(1, Errno.EAGAIN, 0), stage.ReadOnce(512, 0, 0));
        Assert.Equal((0, 0L, 0), (bios, stage.Token.MapsMade, stage.Device.LiveMaps));
        MakeMap(stage);
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), stage.ReadOnce(512, 0, 0));
        Assert.Equal(new InvalidationReport(1, 0), stage.Move());
        Assert.Equal(new RingCompletion(1, Errno.EAGAIN, 0), stage.ReadOnce(512, 0, 0));
        MakeMap(stage);
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), stage.WriteOnce(512, 0, 0));
    }

    [Fact]
    public void R4_a_ring_that_may_wait_never_shows_EAGAIN_and_issues_again_by_itself_after_each_invalidation()
    {
        using var stage = new Stage();
        var sectors = new List<long>();
        stage.Device.OnSubmit = bio => sectors.Add(bio.Sector);
        new Random(4).NextBytes(stage.Device.Store);
        for (int i = 0; i < 50; i++)
        {
            stage.Read(512, i * 512, i * 512, (ulong)i);
            stage.Move();
            Assert.Equal([new RingCompletion((ulong)i, Errno.Ok, 512)], stage.Run());
        }

        Assert.Equal(Enumerable.Range(0, 50).Select(static i => (long)i), sectors);
        Assert.Equal(50, stage.Token.MapsMade);
        Assert.True(stage.Exporter.Region.Span(0, 25600).SequenceEqual(stage.Device.Store[..25600]));
    }

    [Fact]
    public void R4_T16_a_request_that_found_no_room_is_parked_without_a_reference_and_completes_once_when_there_is_room()
    {
        using var stage = new Stage();
        var sectors = new List<long>();
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 1;
        for (int i = 0; i < 4; i++)
            stage.Read(512, i * 512, i * 512, (ulong)i);
        Assert.Equal(4, stage.Submit());
        Assert.Equal(4, stage.Ring.InFlight);

        // One of four was taken by the device and has ended there: one reference, not four.
        Assert.Equal(1, stage.Device.Finish());
        stage.Device.OnSubmit = bio => sectors.Add(bio.Sector);
        Assert.Equal(new InvalidationReport(1, 1), stage.Move());
        stage.Device.Hold = false;
        Assert.Equal([0UL, 1, 2, 3], stage.Reap(4).Select(static c => c.UserData));
        Assert.Equal([1L, 2, 3], sectors.Distinct());
        Assert.Equal(new InvalidationReport(1, 0), stage.Move());
    }

    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void R4_a_request_that_was_sent_back_and_taken_again_drops_exactly_the_one_reference_it_holds(InvalidationDesign design)
    {
        using var stage = new Stage(new TokenOptions { Design = design });
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 0;
        for (int i = 0; i < 5; i++)
            stage.Read(512, i * 512, i * 512, (ulong)i);
        stage.Submit();
        for (int i = 0; i < 10; i++)
            stage.Submit(); // taken again and sent back again
        Assert.Equal(new InvalidationReport(1, 0), stage.Invalidate());
        stage.Device.QueueDepth = 5;
        stage.Submit();
        Assert.Equal(5, stage.Device.Finish());
        Assert.Equal(new InvalidationReport(1, 5), stage.Invalidate());
        Assert.All(stage.Reap(5), static c => Assert.Equal(new RingCompletion(c.UserData, Errno.Ok, 512), c));

        // What hung in the series: a removal after references were lost.
        stage.Device.Device.Remove();
        Assert.Equal(0, stage.Device.LiveMaps);
        Assert.Equal(Errno.ENODEV, stage.ReadOnce(512, 0, 0).Status);
    }

    [Fact]
    public void R4_a_split_that_finds_room_for_a_part_keeps_its_one_reference_and_doubles_nothing()
    {
        using var stage = new Stage(limits: new QueueLimits(512) { MaxBytes = 512 });
        var sectors = new List<long>();
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 3;
        new Random(8).NextBytes(stage.Device.Store);
        stage.Read(8 * 512, 1024, 2048);
        stage.Submit();
        Assert.Equal(3, stage.Device.Held);
        stage.Device.OnSubmit = bio => sectors.Add(bio.Sector);
        Assert.Equal(2, stage.Device.Finish(2));
        Assert.Equal(0, stage.Ring.Reap(new RingCompletion[1]));
        Assert.Equal(3, stage.Device.Held);
        stage.Device.Hold = false;
        stage.Device.Finish();
        Assert.Equal(new InvalidationReport(1, 1), stage.Move());
        Assert.Equal([new RingCompletion(1, Errno.Ok, 4096)], stage.Reap(1));
        Assert.Equal([7L, 8, 9, 10, 11], sectors.Distinct());
        Assert.True(stage.Exporter.Region.Span(1024, 4096).SequenceEqual(stage.Device.Store.Slice(2048, 4096)));
        Assert.Equal(new InvalidationReport(0, 0), stage.Move());
    }

    [Fact]
    public void R4_without_room_in_the_pool_of_bios_nothing_is_lost()
    {
        using var stage = new Stage(
            ring: new RingOptions { Name = "few bios", Entries = 4, Bios = 4 }, limits: new QueueLimits(512) { MaxBytes = 512 });
        new Random(9).NextBytes(stage.Device.Store);
        for (int i = 0; i < 4; i++)
            stage.Read(16 * 512, i * 8192, i * 8192, (ulong)i);
        Assert.Equal(
            Enumerable.Range(0, 4).Select(static i => new RingCompletion((ulong)i, Errno.Ok, 8192)),
            stage.Run().OrderBy(static c => c.UserData));
        Assert.True(stage.Exporter.Region.Span(0, 32768).SequenceEqual(stage.Device.Store[..32768]));
    }

    [Fact]
    public void R4_room_that_a_visitor_made_is_used_though_nothing_else_ends()
    {
        using var stage = new Stage();
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 2;
        for (int i = 0; i < 3; i++)
            stage.Read(512, i * 512, i * 512, (ulong)i);
        stage.Submit();
        Assert.Equal(1, stage.Device.Finish(1));
        stage.Ring.Context.ReapAsVisitor();
        Assert.Equal([0UL], stage.Reap(1).Select(static c => c.UserData));
        stage.Ring.Reap(new RingCompletion[1]);
        Assert.Equal(2, stage.Device.Held);
        Assert.Equal([1UL, 2], stage.Drain().Select(static c => c.UserData));
    }

    [Fact]
    public void R4_a_device_that_makes_no_room_does_not_keep_the_requests_of_another_parked()
    {
        using var stage = new Stage();
        PuppetBlockDevice quick = stage.AddDevice("puppet1");
        var file = new BlockDeviceFile(quick);
        stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = file });
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 1;
        quick.Hold = true;
        quick.QueueDepth = 1;
        using var letting = new LetGo(quick);
        stage.Read(512, 0, 0, 1);
        stage.Read(512, 512, 512, 2);
        for (ulong i = 3; i < 5; i++)
            Assert.True(stage.Ring.TryReadFixed(file, 1, 4096, 512, 0, i));
        stage.Submit();
        quick.Finish();
        Assert.Equal([3UL], stage.Reap(1).Select(static c => c.UserData));
        stage.Ring.Reap(new RingCompletion[1]);
        Assert.Equal(1, quick.Held);
        quick.Finish();
        Assert.Equal([4UL], stage.Reap(1).Select(static c => c.UserData));
        Assert.Equal([1UL, 2], stage.Drain().Select(static c => c.UserData));
        file.Put();
    }

    [Fact]
    public void R4_a_flush_that_finds_no_room_waits_for_it_too()
    {
        using var stage = new Stage();
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 1;
        stage.Read(512, 0, 0, 1);
        Assert.True(stage.Ring.TryFlush(stage.File, 2));
        stage.Submit();
        Assert.Equal(1, stage.Device.Held);
        Assert.Equal([new RingCompletion(1, Errno.Ok, 512), new RingCompletion(2, Errno.Ok, 0)], stage.Drain());
    }

    [Fact]
    public void R4_a_request_whose_map_cannot_be_made_ends_once_with_the_drivers_error_and_the_next_one_tries_again()
    {
        using var stage = new Stage();
        stage.Device.FailMap = static () => new DmaBufIoException(Errno.ENOMEM, "test", "map", "none left", "Try later");
        stage.Read(512, 0, 0, 1);
        stage.Read(512, 0, 0, 2);
        Assert.Equal([new RingCompletion(1, Errno.ENOMEM, 0), new RingCompletion(2, Errno.ENOMEM, 0)], stage.Run());
        stage.Device.FailMap = null;
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), stage.ReadOnce(512, 0, 0));
    }

    [Fact]
    public void R4_a_submission_that_is_interrupted_ends_its_requests_with_EINTR_and_loses_none()
    {
        using var stage = new Stage();
        using var interrupted = new CancellationTokenSource();
        using var locked = new ManualResetEventSlim();
        using var done = new ManualResetEventSlim();
        var holder = new Thread(() =>
        {
            using ReservationGuard guard = stage.Exporter.Buffer.Reservation.Lock();
            locked.Set();
            done.Wait();
        });
        holder.Start();
        locked.Wait(TestContext.Current.CancellationToken);
        interrupted.Cancel();
        stage.Read(512, 0, 0, 1);
        stage.Read(512, 0, 0, 2);
        Assert.Equal(2, stage.Ring.Submit(interrupted.Token));
        done.Set();
        holder.Join();
        Assert.Equal([new RingCompletion(1, Errno.EINTR, 0), new RingCompletion(2, Errno.EINTR, 0)], stage.Reap(2));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), stage.ReadOnce(512, 0, 0));
    }

    [Fact]
    public void R4_an_interrupted_call_leaves_parked_what_it_took_up_again_on_its_way_and_ends_only_what_it_was_to_submit()
    {
        using var stage = new Stage();
        using var interrupted = new CancellationTokenSource();
        interrupted.Cancel();
        var sectors = new List<long>();
        stage.Device.QueueDepth = 0;
        for (int i = 0; i < 3; i++)
            stage.Read(512, i * 512, i * 512, (ulong)i);
        stage.Submit();
        Assert.Equal(new InvalidationReport(1, 0), stage.Invalidate());

        // There is room again, but the way to a new map leads past a job that is not done.
        stage.Device.QueueDepth = int.MaxValue;
        stage.Device.OnSubmit = bio => sectors.Add(bio.Sector);
        var job = new DmaFence("job", DmaFence.NewContext(), 1);
        using (ReservationGuard guard = stage.Exporter.Buffer.Reservation.Hold())
        {
            stage.Exporter.Buffer.Reservation.Reserve(guard.Held, 1);
            stage.Exporter.Buffer.Reservation.Add(guard.Held, job, FenceUsage.Write);
        }

        try
        {
            Assert.Equal((0, 3), (stage.Ring.Reap(new RingCompletion[4], 1, interrupted.Token), stage.Ring.InFlight));
            stage.Read(512, 0, 0, 9);
            Assert.Equal((1, 3), (stage.Ring.Submit(interrupted.Token), stage.Ring.InFlight));
        }
        finally
        {
            job.Signal();
        }

        Assert.Equal(
            [new(9, Errno.EINTR, 0), new(0, Errno.Ok, 512), new(1, Errno.Ok, 512), new(2, Errno.Ok, 512)],
            stage.Reap(4));
        Assert.Equal([0L, 1, 2], sectors);
    }

    /// <summary>A test that fails leaves nothing held, so that its ring can be closed.</summary>
    private sealed class LetGo(PuppetBlockDevice device) : IDisposable
    {
        public void Dispose()
        {
            device.Hold = false;
            device.Finish();
        }
    }

    /// <summary>What an application with a ring that may not wait does on a thread that may.</summary>
    private static void MakeMap(Stage stage)
    {
        Assert.Equal(Errno.Ok, stage.Token.GetMap(stage.Ring.Context, out DmaMap? map, TestContext.Current.CancellationToken));
        DmaBufToken.Drop(map!, stage.Ring.Context);
        stage.Ring.Context.Leave();
    }
}
