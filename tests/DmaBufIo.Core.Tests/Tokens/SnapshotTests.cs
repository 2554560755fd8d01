using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.TokenTests;

public sealed class SnapshotTests
{
    [Fact]
    public void A_snapshot_shows_who_holds_a_lock_since_when_and_who_waits_for_it_in_order()
    {
        using var stage = new TokenStage();
        Actor first;
        Actor second;
        using (stage.Buffer.Reservation.Hold())
        {
            first = Actor.Start("first", () => stage.Invalidate());
            first.UntilItWaitsFor(stage.LockText);
            second = Actor.Start("second", () => stage.Invalidate());
            WaitState wait = second.UntilItWaitsFor(stage.LockText);
            LockState state = stage.LockState();
            Assert.Contains("held by", wait.WaitsFor, StringComparison.Ordinal);
            Assert.NotNull(state.Holder);
            Assert.Equal([first.Name, second.Name], state.Waiters);
            Assert.True(state.HeldFor >= wait.Waited);
        }

        first.Join();
        second.Join();
        Assert.Equal((null, TimeSpan.Zero), (stage.LockState().Holder, stage.LockState().HeldFor));
        Assert.Empty(stage.LockState().Waiters);
    }

    [Fact]
    public void A_snapshot_shows_fences_that_have_not_signalled()
    {
        using var stage = new TokenStage();
        var fence = new DmaFence("job of the exporter", 77, 5);
        MakingTests.AddFence(stage, fence, FenceUsage.Read);
        FenceState shown = Assert.Single(stage.Fences());
        Assert.Equal((stage.Buffer.Name, "job of the exporter #77:5", "Read"), (shown.Buffer, shown.Fence, shown.Usage));
        fence.Signal();
        Assert.Empty(stage.Fences());
    }

    [Fact]
    public void A_snapshot_shows_a_token_with_its_users_and_the_age_of_its_oldest_request_and_what_keeps_a_killed_map()
    {
        using var stage = new Stage();
        string token = stage.Token.Name;
        TokenState State() => DmaBufIoDiagnostics.Snapshot().Tokens.Single(t => t.Token == token);
        KilledMapState[] Killed() => [.. DmaBufIoDiagnostics.Snapshot().KilledMaps.Where(k => k.Token == token)];
        Assert.Equal(("Live", null, 0L, null), (State().State, State().LiveGeneration, State().Users, State().OldestRequest));
        stage.Device.Hold = true;
        for (ulong i = 0; i < 3; i++)
            stage.Read(userData: i);
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        TokenState live = State();
        Assert.Equal((stage.File.Name, "b0", 1L, 3L), (live.File, live.Buffer, live.LiveGeneration, live.Users));
        Assert.NotNull(live.OldestRequest);
        Actor.Until(() => State().OldestRequest > live.OldestRequest, "the oldest request grows older");

        stage.Device.Device.KillMaps();
        KilledMapState killed = Assert.Single(Killed());
        Assert.Equal((1L, 3L), (killed.Generation, killed.Users));
        Assert.Contains("3 requests in flight on ring0", killed.KeptBy, StringComparison.Ordinal);
        Assert.NotNull(State().OldestRequest);

        using (stage.Exporter.Buffer.Reservation.Hold())
        {
            stage.Device.Finish();
            stage.Reap(3);
            Assert.Contains("waits for the reservation lock", Assert.Single(Killed()).KeptBy, StringComparison.Ordinal);
        }

        Actor.Until(() => Killed().Length == 0, "the map is unmapped");
    }

    [Fact]
    public void A_wait_that_passes_the_threshold_is_reported_once()
    {
        using var stage = new TokenStage();
        var reports = new List<LongWait>();
        string? name = null;
        void Note(LongWait wait)
        {
            if (wait.Thread == Volatile.Read(ref name))
            {
                lock (reports)
                    reports.Add(wait);
            }
        }

        int Count()
        {
            lock (reports)
                return reports.Count;
        }

        TimeSpan threshold = DmaBufIoDiagnostics.WaitThreshold;
        DmaBufIoDiagnostics.LongWaitDetected += Note;
        try
        {
            DmaBufIoDiagnostics.WaitThreshold = TimeSpan.FromMilliseconds(1);
            var second = new DmaFence("second", DmaFence.NewContext(), 1);
            var first = new DmaFence("first", DmaFence.NewContext(), 1);
            using var go = new ManualResetEventSlim();
            Actor waiter = Actor.Start("waiter", () =>
            {
                go.Wait(Actor.Limit, CancellationToken.None);
                first.Wait(TestContext.Current.CancellationToken);
                second.Wait(TestContext.Current.CancellationToken);
            });
            Volatile.Write(ref name, waiter.Name);
            go.Set();
            Actor.Until(() => Count() == 1, "the wait is reported");
            Assert.Equal((waiter.Name, true), (reports[0].Thread, reports[0].WaitsFor.StartsWith("fence first", StringComparison.Ordinal)));
            Assert.True(reports[0].Waited >= TimeSpan.FromMilliseconds(1));

            // Woken again and again, far beyond the threshold: the same wait is not reported again, the next one is.
            Actor.Until(() => waiter.UntilItWaitsFor("fence first").Waited > TimeSpan.FromMilliseconds(20),
                "it has waited for many thresholds");
            Assert.Equal(1, Count());
            first.Signal();
            waiter.UntilItWaitsFor("fence second");
            Actor.Until(() => Count() == 2, "the second wait is reported");
            second.Signal();
            waiter.Join();
            Assert.Equal(2, Count());
        }
        finally
        {
            DmaBufIoDiagnostics.LongWaitDetected -= Note;
            DmaBufIoDiagnostics.WaitThreshold = threshold;
        }
    }

    [Theory]
    [InlineData(InvalidationDesign.Draining, "drain of map 1")]
    [InlineData(InvalidationDesign.Fenced, "fence map 1")]
    public void A_wait_for_requests_is_one_wait_however_often_the_waiter_reaps_for_others_meanwhile(InvalidationDesign design, string text)
    {
        using var stage = new TokenStage(new TokenOptions { Design = design });
        var reports = new List<LongWait>();
        string? name = null;
        void Note(LongWait wait)
        {
            if (wait.Thread == Volatile.Read(ref name))
            {
                lock (reports)
                    reports.Add(wait);
            }
        }

        TimeSpan threshold = DmaBufIoDiagnostics.WaitThreshold;
        DmaBufIoDiagnostics.LongWaitDetected += Note;
        try
        {
            DmaBufIoDiagnostics.WaitThreshold = TimeSpan.FromMilliseconds(10);
            DmaMap map = stage.Take();
            using var go = new ManualResetEventSlim();
            Actor exporter = Actor.Start("exporter", () =>
            {
                go.Wait(Actor.Limit, CancellationToken.None);
                stage.Invalidate();
                stage.Buffer.Reservation.Wait(FenceUsage.Bookkeep, TestContext.Current.CancellationToken);
            });
            Volatile.Write(ref name, exporter.Name);
            go.Set();
            Actor.Until(
                () =>
                {
                    lock (reports)
                        return reports.Count > 0;
                },
                "the wait is reported");
            TimeSpan reported = reports[0].Waited;
            Actor.Until(() => exporter.UntilItWaitsFor(text).Waited > reported + TimeSpan.FromMilliseconds(50),
                "it has waited for many thresholds more");
            stage.Drop(map);
            exporter.Join();
            LongWait report = Assert.Single(reports, r => r.WaitsFor.StartsWith(text, StringComparison.Ordinal));
            Assert.True(report.Waited >= TimeSpan.FromMilliseconds(10));
        }
        finally
        {
            DmaBufIoDiagnostics.LongWaitDetected -= Note;
            DmaBufIoDiagnostics.WaitThreshold = threshold;
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_handler_of_long_waits_that_throws_does_not_end_the_wait_and_is_reported_like_a_driver(bool drives)
    {
        using var stage = new TokenStage();
        var mistake = new InvalidOperationException("a handler's mistake");
        var faults = new List<string>();
        string? name = null;
        void Throw(LongWait wait)
        {
            if (wait.Thread == Volatile.Read(ref name))
                throw mistake;
        }

        void Note(DriverFault fault)
        {
            if (ReferenceEquals(fault.Exception, mistake))
            {
                lock (faults)
                    faults.Add(fault.Callback);
            }
        }

        int Count()
        {
            lock (faults)
                return faults.Count;
        }

        // A waiter in line for a lock, and one that drives others' queues while it waits: each reports by itself.
        var fence = new DmaFence("slow", DmaFence.NewContext(), 1, static () => { });
        TimeSpan threshold = DmaBufIoDiagnostics.WaitThreshold;
        DmaBufIoDiagnostics.LongWaitDetected += Throw;
        DmaBufIoDiagnostics.DriverFaulted += Note;
        try
        {
            DmaBufIoDiagnostics.WaitThreshold = TimeSpan.FromMilliseconds(1);
            using var go = new ManualResetEventSlim();
            InvalidationReport? report = null;
            Errno waited = Errno.EAGAIN;
            Actor waiter = Actor.Start("waiter", () =>
            {
                go.Wait(Actor.Limit, CancellationToken.None);
                if (drives)
                    waited = fence.Wait(TestContext.Current.CancellationToken);
                else
                    report = stage.Invalidate();
            });
            Volatile.Write(ref name, waiter.Name);
            using (stage.Buffer.Reservation.Hold())
            {
                go.Set();
                Actor.Until(() => Count() == 1 || waiter.IsDone, "the handler has thrown");
                waiter.UntilItWaitsFor(drives ? "fence slow" : stage.LockText);
            }

            fence.Signal();
            waiter.Join();
            Assert.Equal(["LongWaitDetected"], faults);
            Assert.Equal(drives ? (Errno.Ok, null) : (Errno.EAGAIN, default(InvalidationReport)), (waited, report));
            Assert.Null(stage.LockState().Holder);
        }
        finally
        {
            DmaBufIoDiagnostics.LongWaitDetected -= Throw;
            DmaBufIoDiagnostics.DriverFaulted -= Note;
            DmaBufIoDiagnostics.WaitThreshold = threshold;
        }
    }

    [Fact]
    public void A_report_of_a_long_wait_for_a_lock_names_its_holder()
    {
        using var stage = new TokenStage();
        using (stage.Buffer.Reservation.Hold())
        {
            Actor waiter = Actor.Start("waiter", () => stage.Invalidate());
            Assert.Contains($"held by {stage.LockState().Holder}",
                waiter.UntilItWaitsFor(stage.LockText).WaitsFor, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Any_threshold_is_accepted()
    {
        TimeSpan threshold = DmaBufIoDiagnostics.WaitThreshold;
        var fence = new DmaFence("never reported", DmaFence.NewContext(), 1);
        try
        {
            DmaBufIoDiagnostics.WaitThreshold = TimeSpan.MaxValue;
            Actor waiter = Actor.Start("waiter", () => fence.Wait(TestContext.Current.CancellationToken));
            waiter.UntilItWaitsFor("never reported");
            fence.Signal();
            waiter.Join();
        }
        finally
        {
            DmaBufIoDiagnostics.WaitThreshold = threshold;
        }
    }
}
