using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Sync;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.TokenTests;

/// <summary>Ends that must come also when something else went wrong first.</summary>
public sealed class EndingTests
{
    [Fact]
    public void D2b_fences_signal_without_a_worker_however_many_buffers_keep_the_workers_waiting()
    {
        using var workers = new WorkQueue("one", 1);
        var options = new TokenOptions { Design = InvalidationDesign.Fenced, Workers = workers };
        using var first = new TokenStage(options);
        using var second = new TokenStage(options);
        DmaMap firstMap = first.Take();
        DmaMap secondMap = second.Take();
        first.Invalidate();
        second.Invalidate();
        using (first.Buffer.Reservation.Hold())
        {
            first.Drop(firstMap);
            second.Drop(secondMap);
            Assert.Empty(first.Fences());
            Assert.Empty(second.Fences());
        }

        second.UntilUnmapped();
    }

    [Fact]
    public void T10_T14_whoever_waits_for_a_release_reaps_the_requests_that_keep_it()
    {
        using var stage = new Stage();
        stage.Read();
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        DmaBufToken token = stage.Ring.RemoveBuffer(0).Token!;
        using var limit = new CancellationTokenSource(Actor.Limit);
        Assert.Equal(Errno.Ok, token.WaitReleased(limit.Token));
        Assert.Equal(Errno.Ok, Assert.Single(stage.Reap(1)).Status);
    }

    [Theory]
    [InlineData(Errno.EAGAIN)]
    [InlineData(Errno.EDEADLK)]
    public void T12_what_a_driver_answers_to_map_is_final_also_when_it_looks_like_a_wish_to_try_again(Errno errno)
    {
        using var stage = new Stage();
        int calls = 0;
        stage.Device.FailMap = () =>
        {
            calls++;
            return new DmaBufIoException(errno, "test", "map", "refused", "none");
        };
        stage.Read();
        Assert.Equal(errno, Assert.Single(stage.Run()).Status);
        Assert.Equal(1, calls);
        stage.Device.FailMap = null;
    }

    [Fact]
    public void T12_a_thread_that_holds_the_buffers_lock_is_refused_a_new_map_instead_of_waiting_for_itself()
    {
        using var stage = new Stage();
        stage.Read();
        using (stage.Exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
            stage.Ring.Submit(TestContext.Current.CancellationToken);
        Assert.Equal(Errno.EDEADLK, Assert.Single(stage.Reap(1)).Status);
    }

    [Fact]
    public void T17_a_batch_that_is_abandoned_still_lets_its_maps_drain()
    {
        using var stage = new TokenStage();
        stage.Drop(stage.Take());
        using (ReservationGuard guard = stage.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        using (var batch = new InvalidationBatch())
            stage.Buffer.CollectInvalidation(batch, guard.Held);
        stage.UntilUnmapped();
    }

    [Fact]
    public void F1_room_reserved_by_one_is_not_taken_away_by_the_next_under_the_same_hold()
    {
        var reservation = new ReservationObject("room");
        using ReservationGuard guard = reservation.Lock(null, TestContext.Current.CancellationToken);
        reservation.Reserve(guard.Held, 1);
        reservation.Reserve(guard.Held, 0);
        reservation.Add(guard.Held, new DmaFence("test", DmaFence.NewContext(), 1), FenceUsage.Write);
        Assert.False(reservation.IsIdle(FenceUsage.Write));
    }

    [Fact]
    public void R4_a_device_that_throws_on_the_request_path_ends_the_request_and_gives_its_reference_back()
    {
        using var stage = new Stage();
        stage.Device.OnSubmit = static _ => throw new InvalidOperationException("a driver's mistake");
        long faults = Counters.DriverFaults.Value;
        stage.Read();
        Assert.Equal(Errno.EIO, Assert.Single(stage.Run()).Status);
        Assert.True(Counters.DriverFaults.Value > faults);
        stage.Device.OnSubmit = null;
        Assert.Equal(0, stage.Exporter.Move(TestContext.Current.CancellationToken).Users);
    }
}
