// Results are looked at when they are there; a request without a token is another than one with it;
// continuations run where the ring runs them.
#pragma warning disable CA2012, xUnit1030, xUnit1031, xUnit1051
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Rings;
using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests.Rings;

/// <summary>A request that is not issued in time ends with ETIMEDOUT; one that the device has is the device's until it has ended it.</summary>
public sealed class TimeoutTests
{
    private static readonly IoStatus s_late = new(Errno.ETIMEDOUT, 0);
    private static readonly TimeSpan s_second = TimeSpan.FromSeconds(1);
    private readonly ManualTime _time = new();

    private RingOptions Options => new() { Name = "timed", Entries = 32, TimeProvider = _time };

    [Fact]
    public void A_prepared_request_ends_when_its_time_is_up_and_moves_nothing()
    {
        using var stage = new Stage(ring: Options);
        int bios = 0;
        stage.Device.OnSubmit = _ => bios++;
        ValueTask<IoStatus> read = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, s_second);
        ValueTask<IoStatus> flush = stage.Ring.FlushAsync(stage.File, s_second);
        ValueTask<IoStatus> longer = stage.Ring.WriteFixedAsync(stage.File, 0, 0, 512, 0, 2 * s_second);
        ValueTask<IoStatus> other = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0);
        _time.Advance(s_second);
        Assert.Equal(4, stage.Ring.Drive(4, TestContext.Current.CancellationToken));
        Assert.Equal([s_late, s_late, new(Errno.Ok, 512), new(Errno.Ok, 512)], [read.Result, flush.Result, longer.Result, other.Result]);
        Assert.Equal((2, 32, 0), (bios, stage.Ring.Room, stage.Ring.InFlight));
    }

    [Fact]
    public void A_request_that_is_issued_in_time_does_not_run_out_of_it()
    {
        using var stage = new Stage(ring: Options);
        ValueTask<IoStatus> read = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, s_second);
        _time.Advance(s_second - TimeSpan.FromTicks(1));
        Assert.Equal(1, stage.Ring.Drive(1, TestContext.Current.CancellationToken));
        Assert.Equal(new IoStatus(Errno.Ok, 512), read.Result);
    }

    [Fact]
    public void R4_a_parked_request_ends_when_its_time_is_up_and_leaves_no_reference()
    {
        using var stage = new Stage(ring: Options);
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 1;
        ValueTask<IoStatus> issued = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, s_second);
        ValueTask<IoStatus> parked = stage.Ring.ReadFixedAsync(stage.File, 0, 512, 512, 512, s_second);
        ValueTask<IoStatus> stays = stage.Ring.ReadFixedAsync(stage.File, 0, 1024, 512, 1024, 2 * s_second);
        stage.Submit();
        Assert.Equal(0, stage.Ring.Drive(0, TestContext.Current.CancellationToken));
        _time.Advance(s_second);
        Assert.Equal(1, stage.Ring.Drive(0, TestContext.Current.CancellationToken));
        Assert.Equal((true, s_late), (parked.IsCompleted, parked.Result));
        Assert.Equal((false, false, 2), (issued.IsCompleted, stays.IsCompleted, stage.Ring.InFlight));
        stage.Device.Hold = false;
        stage.Device.Finish();
        Assert.Equal(2, stage.Ring.Drive(2, TestContext.Current.CancellationToken));
        Assert.Equal([new(Errno.Ok, 512), new(Errno.Ok, 512)], [issued.Result, stays.Result]);
        Assert.Equal(new InvalidationReport(1, 0), stage.Invalidate());
    }

    [Fact]
    public void T16_a_request_that_the_device_has_ends_when_the_device_ends_it_late_or_not_and_until_then_the_memory_is_not_the_callers()
    {
        using var stage = new Stage(ring: Options);
        new Random(1).NextBytes(stage.Device.Store);
        stage.Device.Hold = true;
        ValueTask<IoStatus> read = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 4096, 0, s_second);
        stage.Submit();
        _time.Advance(1000 * s_second);
        for (int i = 0; i < 3; i++)
            Assert.Equal(0, stage.Ring.Drive(0, TestContext.Current.CancellationToken));
        Assert.Equal((false, 1), (read.IsCompleted, stage.Ring.InFlight));
        Assert.False(stage.Exporter.Region.Span(0, 4096).SequenceEqual(stage.Device.Store[..4096]));
        stage.Device.Hold = false;
        stage.Device.Finish();
        Assert.Equal(1, stage.Ring.Drive(1, TestContext.Current.CancellationToken));
        Assert.Equal(new IoStatus(Errno.Ok, 4096), read.Result);
        Assert.True(stage.Exporter.Region.Span(0, 4096).SequenceEqual(stage.Device.Store[..4096]));
    }

    [Fact]
    public void T12_a_wait_for_a_map_ends_when_the_time_is_up_and_others_wait_on()
    {
        using var stage = new Stage(ring: Options);
        ValueTask<IoStatus> first = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, s_second);
        ValueTask<IoStatus> second = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0);
        Actor driver;
        using (stage.Exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            driver = Actor.Start("driver", () =>
            {
                for (int left = 2; left > 0;)
                    left -= stage.Ring.Drive(left);
            });
            driver.UntilItWaitsFor("reservation lock");
            _time.Advance(s_second);
            Actor.Until(() => stage.Ring.Counters.Failed == 1, "the first request has ended");
            driver.UntilItWaitsFor("reservation lock");
        }

        driver.Join();
        Assert.Equal([s_late, new(Errno.Ok, 512)], [first.Result, second.Result]);
        Assert.Equal(0, _time.Armed);
    }

    [Fact]
    public void R4_a_wait_of_the_call_that_took_a_parked_request_up_again_parks_it_though_it_has_a_time()
    {
        using var stage = new Stage(ring: Options);
        stage.Device.QueueDepth = 0;
        ValueTask<IoStatus> task = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, s_second);
        stage.Submit();
        stage.Device.QueueDepth = 8;
        stage.Invalidate();
        using var call = new CancellationTokenSource();
        using (stage.Exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            Actor caller = Actor.Start("caller", () => stage.Ring.Submit(call.Token));
            caller.UntilItWaitsFor("reservation lock");
            call.Cancel();
            caller.Join();
            Assert.Equal((false, 1), (task.IsCompleted, stage.Ring.InFlight));
            Actor again = Actor.Start("again", () => stage.Ring.Drive(0));
            again.UntilItWaitsFor("reservation lock");
            _time.Advance(s_second);
            again.Join();
        }

        Assert.Equal((s_late, 0), (task.Result, stage.Ring.InFlight));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), stage.ReadOnce(512, 0, 0));
    }

    [Fact]
    public void A_cancelled_request_whose_time_is_up_too_was_cancelled()
    {
        using var stage = new Stage(ring: Options);
        using var cancel = new CancellationTokenSource();
        ValueTask<IoStatus> read = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, s_second, cancel.Token);
        _time.Advance(s_second);
        cancel.Cancel();
        Assert.Equal(1, stage.Ring.Drive(1, TestContext.Current.CancellationToken));
        Assert.Equal(new IoStatus(Errno.EINTR, 0), read.Result);
    }

    [Fact]
    public void A_time_that_has_passed_takes_nothing_and_one_that_cannot_be_is_refused()
    {
        using var stage = new Stage(ring: Options);
        ValueTask<IoStatus> none = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, TimeSpan.Zero);
        Assert.Equal((true, s_late, 32), (none.IsCompleted, none.Result, stage.Ring.Room));
        foreach (TimeSpan wrong in new[] { TimeSpan.FromTicks(-1), TimeSpan.FromDays(25) })
            Assert.Throws<ArgumentOutOfRangeException>(() => _ = stage.Ring.FlushAsync(stage.File, wrong));
        foreach (TimeSpan wrong in new[] { TimeSpan.Zero, TimeSpan.FromTicks(-1), TimeSpan.FromDays(25) })
            Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => _ = new RingOptions { RequestTimeout = wrong }));
        Assert.Equal(32, stage.Ring.Room);
    }

    [Fact]
    public void A_ring_has_a_time_for_all_requests_and_a_request_may_have_its_own()
    {
        using var stage = new Stage(ring: Options with { RequestTimeout = s_second });
        ValueTask<IoStatus> read = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0);
        ValueTask<IoStatus> write = stage.Ring.WriteFixedAsync(stage.File, 0, 0, 512, 0);
        ValueTask<IoStatus> flush = stage.Ring.FlushAsync(stage.File);
        ValueTask<IoStatus> own = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, 2 * s_second);
        ValueTask<IoStatus> none = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, Timeout.InfiniteTimeSpan);
        _time.Advance(s_second);
        Assert.Equal(5, stage.Ring.Drive(5, TestContext.Current.CancellationToken));
        Assert.Equal([s_late, s_late, s_late, new(Errno.Ok, 512), new(Errno.Ok, 512)], [read.Result, write.Result, flush.Result, own.Result, none.Result]);
    }

    [Fact]
    public void A_request_without_a_time_does_not_inherit_that_of_the_one_before_it()
    {
        using var stage = new Stage(ring: Options with { Entries = 1 });
        for (int i = 0; i < 3; i++)
        {
            ValueTask<IoStatus> timed = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, s_second);
            _time.Advance(s_second);
            Assert.Equal(1, stage.Ring.Drive(1, TestContext.Current.CancellationToken));
            Assert.Equal(s_late, timed.Result);
            ValueTask<IoStatus> untimed = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0);
            _time.Advance(10 * s_second);
            Assert.Equal(1, stage.Ring.Drive(1, TestContext.Current.CancellationToken));
            Assert.Equal(new IoStatus(Errno.Ok, 512), untimed.Result);
        }
    }

    [Fact]
    public void A_driver_thread_ends_what_is_late_by_itself()
    {
        using var stage = new Stage(ring: Options with { DriverThread = true });
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 1;
        ValueTask<IoStatus> issued = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, s_second);
        ValueTask<IoStatus> parked = stage.Ring.ReadFixedAsync(stage.File, 0, 512, 512, 512, s_second);
        Actor.Until(() => stage.Device.Held == 1 && stage.Ring.Counters.Requests == 2, "both are submitted");
        Assert.False(parked.IsCompleted);
        _time.Advance(s_second);
        Actor.Until(() => parked.IsCompleted, "the parked one has ended");
        Assert.Equal((s_late, false), (parked.Result, issued.IsCompleted));
        stage.Device.Hold = false;
        stage.Device.Finish();
        Actor.Until(() => issued.IsCompleted, "the other one has ended");
        Assert.Equal(new IoStatus(Errno.Ok, 512), issued.Result);
    }

    [Fact]
    public void While_one_request_waits_for_its_map_the_times_cancellations_and_requests_of_others_go_on()
    {
        using var stage = new Stage(ring: Options with { DriverThread = true });
        MovingExporter free = MovingExporter.Create("b1", Stage.BufferSize);
        stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = free.Buffer, File = stage.File });
        using var cancel = new CancellationTokenSource();
        ValueTask<IoStatus> waits, late, cancelled;
        using (stage.Exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            waits = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0);
            late = stage.Ring.ReadFixedAsync(stage.File, 0, 512, 512, 512, s_second);
            cancelled = stage.Ring.ReadFixedAsync(stage.File, 0, 1024, 512, 1024, cancel.Token);
            for (int i = 0; i < 3; i++)
            {
                ValueTask<IoStatus> other = stage.Ring.ReadFixedAsync(stage.File, 1, 0, 512, 0);
                Actor.Until(() => other.IsCompleted, "a request on a buffer that nobody has locked has ended");
                Assert.Equal(new IoStatus(Errno.Ok, 512), other.Result);
            }

            cancel.Cancel();
            Actor.Until(() => cancelled.IsCompleted, "the cancelled one has ended");
            _time.Advance(s_second);
            Actor.Until(() => late.IsCompleted, "the late one has ended");
            Assert.False(waits.IsCompleted);
        }

        Actor.Until(() => waits.IsCompleted, "the one that waits has ended");
        Assert.Equal([new(Errno.Ok, 512), s_late, new(Errno.EINTR, 0)], [waits.Result, late.Result, cancelled.Result]);
        RemovedBuffer removed = stage.Ring.RemoveBuffer(1);
        Actor.Until(() => removed.IsReleased, "the other registration has ended");
        free.Buffer.Put();
    }

    [Fact]
    public void While_one_request_waits_for_its_map_a_later_one_that_is_cancelled_ends_on_a_ring_that_its_owner_drives()
    {
        using var stage = new Stage(ring: Options);
        using var cancel = new CancellationTokenSource();
        using var other = new CancellationTokenSource();
        ValueTask<IoStatus> waits = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, other.Token);
        ValueTask<IoStatus> cancelled = stage.Ring.ReadFixedAsync(stage.File, 0, 512, 512, 512, cancel.Token);
        Actor driver;
        using (stage.Exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            driver = Actor.Start("driver", () =>
            {
                for (int left = 2; left > 0;)
                    left -= stage.Ring.Drive(left);
            });
            driver.UntilItWaitsFor("reservation lock");
            cancel.Cancel();
            Actor.Until(() => stage.Ring.Counters.Failed == 1, "the cancelled one has ended");
        }

        driver.Join();
        Assert.Equal([new(Errno.Ok, 512), new(Errno.EINTR, 0)], [waits.Result, cancelled.Result]);
    }

    [Fact]
    public void C6_a_request_that_waits_for_its_map_gets_it_though_another_never_ends_and_the_ring_waits_for_interrupts()
    {
        using var stage = new Stage(ring: Options with { DriverThread = true, Completion = CompletionMode.Interrupts, HealthCheckInterval = Timeout.InfiniteTimeSpan }, register: false);
        var device = new InterruptingDevice(stage.Device);
        var file = new BlockDeviceFile(device);
        MovingExporter free = MovingExporter.Create("b1", Stage.BufferSize);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = file });
        stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = free.Buffer, File = file });
        ValueTask<IoStatus> stays = stage.Ring.ReadFixedAsync(file, 1, 0, 512, 0);
        Actor.Until(() => device.Committed == 1, "the device has the one that never ends");
        ValueTask<IoStatus> waits;
        using (stage.Exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            waits = stage.Ring.ReadFixedAsync(file, 0, 0, 512, 0);
            ValueTask<IoStatus> late = stage.Ring.ReadFixedAsync(file, 0, 0, 512, 0, s_second);

            // Taken over by the thread, which is in the wait for the map.
            Actor.Until(() => stage.Ring.Counters.Requests >= 2, "the thread has it");
            _time.Advance(s_second);
            Actor.Until(() => late.IsCompleted, "the late one has ended");
            Assert.Equal(s_late, late.Result);
        }

        Actor.Until(() => device.Committed == 2, "the device has the one that waited");
        device.LetGo();
        Actor.Until(() => stays.IsCompleted && waits.IsCompleted, "all have ended");
        Assert.Equal([new(Errno.Ok, 512), new(Errno.Ok, 512)], [stays.Result, waits.Result]);
        RemovedBuffer removed = stage.Ring.RemoveBuffer(1);
        Actor.Until(() => removed.IsReleased, "the other registration has ended");
        free.Buffer.Put();
    }
}
