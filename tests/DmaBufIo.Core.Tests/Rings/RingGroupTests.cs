// Results are looked at when they are there; continuations run where the ring runs them.
#pragma warning disable CA2012, xUnit1030, xUnit1031, xUnit1051
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Rings;
using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests.Rings;

/// <summary>Rings that are counted and waited for together.</summary>
public sealed class RingGroupTests
{
    private readonly RingGroup _group = new();

    private RingOptions Options => new() { Name = "grouped", Entries = 32, Group = _group };

    [Fact]
    public void A_ring_is_in_its_group_from_its_making_to_its_disposal_and_what_it_has_done_stays_counted()
    {
        Assert.Empty(_group.Rings);
        using (var stage = new Stage(ring: Options))
        {
            Assert.Same(stage.Ring, Assert.Single(_group.Rings));
            stage.ReadOnce(4096, 0, 0);
            stage.ReadOnce(512, Stage.BufferSize, 0);
            IoCounters totals = _group.Totals();
            Assert.Equal((2, 1, 1, 4096L), (totals.Requests, totals.Completed, totals.Failed, totals.Bytes));
        }

        Assert.Empty(_group.Rings);
        Assert.Equal((2, 4096L), (_group.Totals().Requests, _group.Totals().Bytes));
        using var second = new Stage(ring: Options);
        second.ReadOnce(512, 0, 0);
        Assert.Equal((3, 4608L), (_group.Totals().Requests, _group.Totals().Bytes));
    }

    [Fact]
    public void T14_requests_are_waited_for_though_nobody_reaps_their_ring_and_their_completions_stay_for_its_owner()
    {
        using var stage = new Stage(ring: Options);
        stage.Device.Hold = true;
        stage.Read(userData: 7);
        stage.Submit();
        Assert.Equal(1, _group.InFlight);
        Actor waiter = Actor.Start("waiter", () => Assert.Equal(Errno.Ok, _group.WaitIdle(TestContext.Current.CancellationToken)));
        waiter.UntilItWaitsFor("rings that come to rest (1 requests in flight)");
        stage.Device.Finish();
        waiter.Join();
        Assert.Equal(0, _group.InFlight);
        Assert.Equal([new RingCompletion(7, Errno.Ok, 4096)], stage.Reap(1));
    }

    [Fact]
    public void A_wait_for_requests_that_do_not_end_is_cancelled()
    {
        using var stage = new Stage(ring: Options);
        stage.Device.Hold = true;
        stage.Read();
        stage.Submit();
        using var cancel = new CancellationTokenSource();
        Actor waiter = Actor.Start("waiter", () => Assert.Equal(Errno.EINTR, _group.WaitIdle(cancel.Token)));
        waiter.UntilItWaitsFor("rings that come to rest");
        cancel.Cancel();
        waiter.Join();
        Assert.Single(stage.Drain());
    }

    [Fact]
    public void What_is_parked_or_prepared_on_a_ring_that_nobody_works_is_not_waited_for()
    {
        using var stage = new Stage(ring: Options);
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 1;
        stage.Read(512);
        stage.Read(512);
        stage.Submit();
        stage.Read(512);
        Actor waiter = Actor.Start("waiter", () => Assert.Equal(Errno.Ok, _group.WaitIdle(TestContext.Current.CancellationToken)));
        waiter.UntilItWaitsFor("rings that come to rest");
        stage.Device.Finish();
        waiter.Join();
        Assert.Equal((1, 0), (stage.Ring.InFlight, stage.Device.Held)); // the parked one, which its owner alone issues
        stage.Device.Hold = false;
        stage.Submit();
        Assert.All(stage.Reap(3), static c => Assert.Equal(new RingCompletion(1, Errno.Ok, 512), c));
    }

    [Fact]
    public void A_ring_with_a_thread_of_its_own_is_waited_for_until_all_that_it_has_taken_is_ended()
    {
        using var stage = new Stage(ring: Options with { DriverThread = true });
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 1;
        ValueTask<IoStatus>[] all = [.. Enumerable.Range(0, 4).Select(_ => stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0))];
        Actor waiter = Actor.Start("waiter", () => Assert.Equal(Errno.Ok, _group.WaitIdle(TestContext.Current.CancellationToken)));
        waiter.UntilItWaitsFor("rings that come to rest");
        stage.Device.Hold = false;
        stage.Device.Finish();
        waiter.Join();
        Actor.Until(() => Array.TrueForAll(all, static t => t.IsCompleted), "all have ended");
        Assert.All(all, static t => Assert.Equal(new IoStatus(Errno.Ok, 512), t.Result));
    }

    [Fact]
    public void A_ring_whose_owner_comes_by_is_waited_for_with_what_it_has_parked()
    {
        using var stage = new Stage(ring: Options);
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 1;
        for (int i = 0; i < 3; i++)
            stage.Read(512);
        stage.Submit();
        int reaped = 0;
        bool go = false;
        Actor owner = Actor.Start("owner", () =>
        {
            var completions = new RingCompletion[3];
            while (reaped < 3)
            {
                if (Volatile.Read(ref go))
                    stage.Device.Finish();
                Interlocked.Add(ref reaped, stage.Ring.Reap(completions));
            }
        });
        int reapedThen = 0;
        Actor waiter = Actor.Start("waiter", () =>
        {
            Assert.Equal(Errno.Ok, _group.WaitIdle(TestContext.Current.CancellationToken));
            reapedThen = stage.Ring.InFlight;
        });
        waiter.UntilItWaitsFor("rings that come to rest");
        Volatile.Write(ref go, true);
        waiter.Join();
        owner.Join();
        Assert.Equal((3, 0), (reaped, reapedThen));
    }
}
