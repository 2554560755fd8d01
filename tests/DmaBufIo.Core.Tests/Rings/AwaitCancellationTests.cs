// Results are looked at when they are there; a request without a token is another than one with it; continuations run where the ring runs them.
#pragma warning disable CA2012, xUnit1030, xUnit1031, xUnit1051
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Rings;
using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests.Rings;

/// <summary>A cancelled request ends with EINTR as long as it was not issued.</summary>
public sealed class AwaitCancellationTests : IDisposable
{
    private static readonly IoStatus s_interrupted = new(Errno.EINTR, 0);
    private readonly CancellationTokenSource _cancel = new();

    public void Dispose() => _cancel.Dispose();

    [Fact]
    public void A_token_that_is_cancelled_already_takes_nothing()
    {
        using var stage = new Stage();
        _cancel.Cancel();
        ValueTask<IoStatus> task = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, _cancel.Token);
        Assert.Equal((true, s_interrupted, 32), (task.IsCompleted, task.Result, stage.Ring.Room));
    }

    [Fact]
    public void A_prepared_request_ends_when_it_would_have_been_submitted()
    {
        using var stage = new Stage();
        int bios = 0;
        stage.Device.OnSubmit = _ => bios++;
        ValueTask<IoStatus> read = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, _cancel.Token);
        ValueTask<IoStatus> flush = stage.Ring.FlushAsync(stage.File, _cancel.Token);
        ValueTask<IoStatus> other = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, TestContext.Current.CancellationToken);
        _cancel.Cancel();
        Assert.Equal(3, stage.Ring.Drive(3, TestContext.Current.CancellationToken));
        Assert.Equal([s_interrupted, s_interrupted, new(Errno.Ok, 512)], [read.Result, flush.Result, other.Result]);
        Assert.Equal((1, 32, 0), (bios, stage.Ring.Room, stage.Ring.InFlight));
    }

    [Fact]
    public void R4_a_parked_request_ends_though_its_device_makes_no_room_and_leaves_no_reference()
    {
        using var stage = new Stage();
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 1;
        ValueTask<IoStatus> issued = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, _cancel.Token);
        ValueTask<IoStatus> parked = stage.Ring.ReadFixedAsync(stage.File, 0, 512, 512, 512, _cancel.Token);
        ValueTask<IoStatus> stays = stage.Ring.ReadFixedAsync(stage.File, 0, 1024, 512, 1024, TestContext.Current.CancellationToken);
        stage.Read(512, 1536, 1536, 9);
        Assert.Equal(4, stage.Submit());
        Assert.Equal(0, stage.Ring.Drive(0, TestContext.Current.CancellationToken));
        _cancel.Cancel();
        Assert.Equal(1, stage.Ring.Drive(0, TestContext.Current.CancellationToken));
        Assert.Equal((true, s_interrupted), (parked.IsCompleted, parked.Result));

        // One that the device has goes on: it may be writing into the buffer.
        Assert.Equal((false, false, 3), (issued.IsCompleted, stays.IsCompleted, stage.Ring.InFlight));
        stage.Device.Hold = false;
        stage.Device.Finish();
        Assert.Equal(2, stage.Ring.Drive(2, TestContext.Current.CancellationToken));
        Assert.Equal([new(Errno.Ok, 512), new(Errno.Ok, 512)], [issued.Result, stays.Result]);
        Assert.Equal([new RingCompletion(9, Errno.Ok, 512)], stage.Reap(1));
        Assert.Equal(new InvalidationReport(1, 0), stage.Invalidate());
    }

    [Fact]
    public void T12_a_wait_for_a_map_ends_and_others_wait_on()
    {
        using var stage = new Stage();
        ValueTask<IoStatus> first = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, _cancel.Token);
        ValueTask<IoStatus> second = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, TestContext.Current.CancellationToken);
        Actor driver;
        using (stage.Exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            driver = Actor.Start("driver", () =>
            {
                for (int left = 2; left > 0;)
                    left -= stage.Ring.Drive(left);
            });
            driver.UntilItWaitsFor("reservation lock");
            _cancel.Cancel();
            Actor.Until(() => stage.Ring.Counters.Failed == 1, "the first request has ended");
            driver.UntilItWaitsFor("reservation lock");
        }

        driver.Join();
        Assert.Equal([s_interrupted, new(Errno.Ok, 512)], [first.Result, second.Result]);
    }

    [Fact]
    public void R4_a_wait_of_the_call_that_took_a_parked_request_up_again_parks_it_and_a_wait_of_its_own_ends_it()
    {
        using var stage = new Stage();
        stage.Device.QueueDepth = 0;
        ValueTask<IoStatus> task = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, _cancel.Token);
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
            _cancel.Cancel();
            again.Join();
        }

        Assert.Equal((s_interrupted, 0), (task.Result, stage.Ring.InFlight));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), stage.ReadOnce(512, 0, 0));
    }
}
