using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Rings;
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

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void T10_T14_whoever_waits_for_a_release_reaps_the_requests_that_keep_it(bool killed)
    {
        using var stage = new Stage();
        stage.Read();
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        if (killed)
            stage.Device.Device.KillMaps();
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
    public void T17_an_invalidation_that_an_importer_breaks_off_still_lets_the_maps_of_the_others_drain()
    {
        using var stage = new TokenStage();
        DmaMap map = stage.Take();
        var broken = new BrokenImporter();
        DmaAttachment attachment = stage.Buffer.Attach(stage.Device, broken);
        Assert.Same(broken.Failure, Assert.Throws<InvalidOperationException>(() => stage.Invalidate()));
        Assert.True(map.IsKilled);
        stage.Drop(map);
        stage.UntilUnmapped();
        stage.Buffer.Detach(attachment, broken);
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
    public void T3_a_driver_whose_map_answers_null_is_reported_and_the_request_ends_with_EIO()
    {
        using var stage = new TokenStage();
        var faults = new List<string>();
        void Note(DriverFault fault)
        {
            if (fault.Callback.Contains(stage.Token.Name, StringComparison.Ordinal))
                faults.Add(fault.Exception.Message);
        }

        DmaBufIoDiagnostics.DriverFaulted += Note;
        stage.Driver.AnswersNull = true;
        Assert.Equal(Errno.EIO, stage.TryTake(out _, TestContext.Current.CancellationToken));
        DmaBufIoDiagnostics.DriverFaulted -= Note;
        Assert.Equal(["Map answered null"], faults);
        Assert.Equal((Errno.EIO, false), (stage.Token.LastMapError!.Errno, stage.Buffer.Reservation.IsLocked));
        stage.FailedMaps = 1;
        stage.Driver.AnswersNull = false;
        stage.Drop(stage.Take());
    }

    [Fact]
    public void R4_a_device_that_throws_at_a_flush_ends_the_flush_and_nothing_else()
    {
        using var stage = new Stage();
        stage.Device.OnSubmit = static bio =>
        {
            if (bio.Operation == BioOperation.Flush)
                throw new InvalidOperationException("a driver's mistake");
        };
        Assert.True(stage.Ring.TryFlush(stage.File, 1));
        stage.Read(userData: 2);
        RingCompletion[] ended = [.. stage.Run().OrderBy(static c => c.UserData)];
        Assert.Equal([new RingCompletion(1, Errno.EIO, 0), new RingCompletion(2, Errno.Ok, 4096)], ended);
        stage.Device.OnSubmit = null;
        Assert.True(stage.Ring.TryFlush(stage.File, 3));
        Assert.Equal([new RingCompletion(3, Errno.Ok, 0)], stage.Run());
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

    private sealed class BrokenImporter : IInvalidationTarget
    {
        internal InvalidOperationException Failure { get; } = new("an importer's mistake");

        public void Invalidate(InvalidationBatch batch, in HeldReservation held) => throw Failure;
    }
}
