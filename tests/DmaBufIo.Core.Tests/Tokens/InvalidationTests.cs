using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Rings;
using DmaBufIo.Sync;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;
using Mono.Cecil;
using Mono.Cecil.Cil;

namespace DmaBufIo.Tests.TokenTests;

/// <summary>F6, F7, T17, D2 and D4: what an invalidation promises in both designs, and which cycles exist.</summary>
public sealed class InvalidationTests
{
    private static readonly TokenOptions s_fenced = new() { Design = InvalidationDesign.Fenced };

    [Fact]
    public void F7_a_draining_invalidation_returns_when_the_last_request_has_dropped_its_reference()
    {
        using var stage = new TokenStage();
        DmaMap map = stage.Take();
        stage.Take();
        InvalidationReport report = default;
        Actor exporter = Actor.Start("exporter", () => report = stage.Invalidate());
        exporter.UntilItWaitsFor("drain of");
        stage.Drop(map);
        exporter.UntilItWaitsFor("drain of");
        Assert.Equal(exporter.Name, stage.LockState().Holder);
        stage.Drop(map);
        exporter.Join();
        Assert.Equal(new InvalidationReport(1, 2), report);
    }

    [Fact]
    public void F7_a_draining_invalidation_waits_for_users_never_for_unmap()
    {
        using var stage = new TokenStage();
        stage.Drop(stage.Take());
        using ReservationGuard guard = stage.Buffer.Reservation.Hold();
        Assert.Equal(new InvalidationReport(1, 0), stage.Buffer.InvalidateMappings(guard.Held));

        // The worker needs the lock that this thread still holds.
        Assert.Equal((0, 1), (stage.Driver.UnmapCalls, stage.Token.Maps));
        Assert.Empty(stage.Fences());
    }

    [Fact]
    public void F7_a_fenced_invalidation_returns_at_once_and_its_fence_signals_after_the_last_request()
    {
        using var stage = new TokenStage(s_fenced);
        DmaMap map = stage.Take();
        Assert.Equal(new InvalidationReport(1, 1), stage.Invalidate());
        Assert.Equal("Kernel", Assert.Single(stage.Fences()).Usage);
        Assert.False(stage.Buffer.Reservation.IsIdle(FenceUsage.Kernel));
        Actor exporter = Actor.Start("exporter",
            () => stage.Buffer.Reservation.Wait(FenceUsage.Bookkeep, TestContext.Current.CancellationToken));
        exporter.UntilItWaitsFor("fence map 1");
        stage.Drop(map);
        exporter.Join();
        Assert.Empty(stage.Fences());
    }

    [Theory]
    [InlineData(InvalidationDesign.Draining, "drain of")]
    [InlineData(InvalidationDesign.Fenced, "fence map")]
    public void F7_the_exporter_moves_the_memory_only_when_no_request_uses_the_old_addresses(InvalidationDesign design, string wait)
    {
        using var stage = new Stage(new TokenOptions { Design = design });
        Random.Shared.NextBytes(stage.Device.Store);
        stage.Device.Hold = true;
        for (int i = 0; i < 4; i++)
            stage.Read(4096, i * 4096, i * 4096, (ulong)i);
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        Actor exporter = Actor.Start("exporter", () => stage.Exporter.Move());
        exporter.UntilItWaitsFor(wait);
        Assert.Equal(0, stage.Exporter.Moves);

        // The device goes on with the old addresses, which are still good; half of the requests end here, the others by the drain.
        stage.Device.Finish(2);
        stage.Reap(2);
        exporter.UntilItWaitsFor(wait);
        stage.Device.Finish();
        stage.Reap(2);
        exporter.Join();
        Assert.Equal((1L, 0L), (stage.Exporter.Moves, stage.Iommu.StaleAccesses));
        Assert.True(stage.Exporter.Region.Span(0, 4 * 4096).SequenceEqual(stage.Device.Store[..(4 * 4096)]));
    }

    [Fact]
    public void F7_the_device_finishes_on_old_addresses_only_while_they_are_good_and_a_late_one_is_seen()
    {
        // The detector of the tests above: a move that does not wait is noticed.
        var stage = new TokenStage();
        DmaMap map = stage.Take();
        var table =
            (SgTable)map.GetType().GetProperty("Table", System.Reflection.BindingFlags.Instance | System.Reflection.BindingFlags.NonPublic)!.GetValue(map)!;
        stage.Exporter.Region.MarkDead();
        Dma.DeviceRange range = table.Ranges[0];
        stage.Port.Read(range.Address, new byte[16]);
        Assert.Equal(1, stage.Iommu.StaleAccesses);
        stage.Drop(map);
        stage.Release();
    }

    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void D4_an_invalidation_covers_the_requests_of_maps_that_someone_else_has_killed(InvalidationDesign design)
    {
        using var stage = new TokenStage(new TokenOptions { Design = design });
        DmaMap map = stage.Take();
        stage.Token.KillMaps();
        InvalidationReport report = default;
        Actor exporter = Actor.Start("exporter", () =>
        {
            report = stage.Invalidate();
            stage.Buffer.Reservation.Wait(FenceUsage.Bookkeep, TestContext.Current.CancellationToken);
        });
        exporter.UntilItWaitsFor(design == InvalidationDesign.Draining ? "drain of" : "fence map");
        stage.Drop(map);
        exporter.Join();
        Assert.Equal(new InvalidationReport(0, 0), report);
    }

    [Fact]
    public void D2a_the_fence_signals_while_someone_holds_the_lock_and_waits_for_it()
    {
        using var stage = new TokenStage(s_fenced);
        DmaMap map = stage.Take();
        using ReservationGuard guard = stage.Buffer.Reservation.Hold();
        stage.Buffer.InvalidateMappings(guard.Held);
        stage.Drop(map);
        using var limit = new CancellationTokenSource(Actor.Limit);
        Assert.Equal(Errno.Ok, stage.Buffer.Reservation.Wait(FenceUsage.Bookkeep, limit.Token));
        Assert.Equal(0, stage.Driver.UnmapCalls);
    }

    [Theory]
    [InlineData(1, true)]
    [InlineData(2, false)]
    public void D2b_a_worker_blocked_on_one_buffers_lock_delays_another_buffers_fence_only_when_there_is_no_other_worker(
        int threads, bool stuck)
    {
        using var workers = new WorkQueue($"few{threads}", threads);
        var options = new TokenOptions { Design = InvalidationDesign.Fenced, Workers = workers, SignalOnWorker = true };
        using var first = new TokenStage(options);
        using var second = new TokenStage(options, iommu: null);
        DmaMap firstMap = first.Take();
        DmaMap secondMap = second.Take();
        first.Invalidate();
        second.Invalidate();
        using (first.Buffer.Reservation.Hold())
        {
            first.Drop(firstMap);
            Actor.Until(
                () => DmaBufIoDiagnostics.Snapshot().Waits.Any(w => w.Thread.StartsWith($"few{threads}/", StringComparison.Ordinal)
                    && w.WaitsFor.Contains(first.LockText, StringComparison.Ordinal)),
                "a worker waits for the first buffer's lock");
            second.Drop(secondMap);
            if (stuck)
            {
                // Nobody uses the second buffer, nobody holds its lock, and its fence cannot signal: whoever waits for it here waits
                // for ever.
                Assert.Single(second.Fences());
                Assert.False(second.Buffer.Reservation.IsLocked);
            }
            else
            {
                using var limit = new CancellationTokenSource(Actor.Limit);
                Assert.Equal(Errno.Ok, second.Buffer.Reservation.Wait(FenceUsage.Bookkeep, limit.Token));
            }
        }

        second.UntilUnmapped();
    }

    [Fact]
    public void D2b_however_many_maps_of_a_buffer_wait_for_its_lock_they_keep_one_worker()
    {
        using var workers = new WorkQueue("pair", 2);
        var options = new TokenOptions { Design = InvalidationDesign.Fenced, Workers = workers, SignalOnWorker = true };
        using var first = new TokenStage(options);
        TokenStage[] others = [.. Enumerable.Range(0, 5).Select(_ => new TokenStage(options, first.Buffer, first.Iommu))];
        using var second = new TokenStage(options);
        foreach (TokenStage stage in others)
            stage.Drop(stage.Take());
        DmaMap map = second.Take();
        second.Invalidate();
        using (ReservationGuard guard = first.Buffer.Reservation.Hold())
        {
            first.Buffer.InvalidateMappings(guard.Held);
            second.Drop(map);
            using var limit = new CancellationTokenSource(Actor.Limit);

            // The second buffer's fence signals behind five maps that cannot be unmapped now, and so do their own.
            Assert.Equal(Errno.Ok, second.Buffer.Reservation.Wait(FenceUsage.Bookkeep, limit.Token));
            Assert.Equal(Errno.Ok, first.Buffer.Reservation.Wait(FenceUsage.Bookkeep, limit.Token));
            Assert.All(others, static o => Assert.Equal((1, 0), (o.Token.Maps, o.Driver.UnmapCalls)));
        }

        foreach (TokenStage stage in others)
        {
            stage.UntilUnmapped();
            Assert.Equal(1, stage.Driver.UnmapCalls);
            stage.Dispose();
        }
    }

    [Fact]
    public void D2b_the_draining_design_does_not_depend_on_workers()
    {
        using var workers = new WorkQueue("one", 1);
        var options = new TokenOptions { Workers = workers };
        using var first = new TokenStage(options);
        using var second = new TokenStage(options);
        first.Drop(first.Take());
        second.Drop(second.Take());
        using ReservationGuard firstGuard = first.Buffer.Reservation.Hold();
        first.Buffer.InvalidateMappings(firstGuard.Held);

        // The only worker is blocked on the first lock; the second invalidation and its holder are not.
        using ReservationGuard secondGuard = second.Buffer.Reservation.Hold();
        Assert.Equal(new InvalidationReport(1, 0), second.Buffer.InvalidateMappings(secondGuard.Held));
    }

    [Fact]
    public void F6_an_exporter_holds_the_lock_when_it_invalidates_and_may_hold_on_while_requests_of_other_buffers_run()
    {
        using var stage = new TokenStage();
        using var other = new TokenStage();
        DmaMap running = other.Take();
        stage.Drop(stage.Take());
        using (ReservationGuard guard = stage.Buffer.Reservation.Hold())
        {
            stage.Buffer.InvalidateMappings(guard.Held);
            Actor requester = Actor.Start("requester", () => stage.Drop(stage.Take()));
            requester.UntilItWaitsFor(stage.LockText);
            for (int i = 0; i < 100; i++)
                other.Drop(other.Take());
            Assert.Equal(1, other.Driver.MapCalls);
        }

        other.Drop(running);
        Actor.Until(() => stage.Token.MapsMade == 2, "the requester has its map");
    }

    [Fact]
    public void F6_an_invalidation_without_the_lock_is_refused()
    {
        using var stage = new TokenStage();
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => stage.Buffer.InvalidateMappings(default));
        Assert.Equal((Errno.EINVAL, "T5"), (refused.Errno, refused.Rule));
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void T17_an_invalidation_of_several_tokens_kills_all_before_it_waits_for_any(bool twoBuffers, bool firstEndsFirst)
    {
        using var first = new TokenStage();
        using var second = twoBuffers ? new TokenStage() : new TokenStage(buffer: first.Buffer, iommu: first.Iommu);
        DmaMap firstMap = first.Take();
        DmaMap secondMap = second.Take();
        InvalidationReport report = default;
        Actor exporter = Actor.Start("exporter", () =>
        {
            var batch = new InvalidationBatch();
            using ReservationGuard firstGuard = first.Buffer.Reservation.Hold();
            first.Buffer.CollectInvalidation(batch, firstGuard.Held);
            if (twoBuffers)
            {
                using ReservationGuard secondGuard = second.Buffer.Reservation.Hold();
                second.Buffer.CollectInvalidation(batch, secondGuard.Held);
                report = batch.Complete();
            }
            else
            {
                report = batch.Complete();
            }
        });
        exporter.UntilItWaitsFor("drain of");
        Assert.Equal((true, true), (firstMap.IsKilled, secondMap.IsKilled));

        // Whichever it waits for first: it returns after both.
        if (firstEndsFirst)
            first.Drop(firstMap);
        else
            second.Drop(secondMap);
        exporter.UntilItWaitsFor($"drain of {(firstEndsFirst ? secondMap : firstMap)}");
        if (firstEndsFirst)
            second.Drop(secondMap);
        else
            first.Drop(firstMap);
        exporter.Join();
        Assert.Equal(new InvalidationReport(2, 2), report);
    }

    [Fact]
    public void T17_an_invalidation_pays_one_barrier_at_most_for_all_its_tokens()
    {
        using AssemblyDefinition assembly = AssemblyDefinition.ReadAssembly(typeof(InvalidationBatch).Assembly.Location);
        TypeDefinition batch = assembly.MainModule.GetType(typeof(InvalidationBatch).FullName);
        var barriers = batch.Methods.Where(static m => m.HasBody)
            .SelectMany(static m => m.Body.Instructions.Select(i => (Method: m, Instruction: i)))
            .Where(static c => c.Instruction.Operand is MethodReference { Name: "Barrier" } or MethodReference { Name: "Await", DeclaringType.Name: "ContextFence" })
            .ToList();
        (MethodDefinition method, Instruction barrier) = Assert.Single(barriers);
        Assert.Equal("FinishKills", method.Name);
        Assert.DoesNotContain(
            method.Body.Instructions,
            i => i.Operand is Instruction target && target.Offset <= barrier.Offset && i.Offset > barrier.Offset);

        // Killing a token's map, and collecting it for a batch, pays none.
        TypeDefinition token = assembly.MainModule.GetType(typeof(DmaBufToken).FullName);
        Assert.DoesNotContain(
            token.Methods.Single(static m => m.Name == "CollectInvalidation").Body.Instructions,
            static i => i.Operand is MethodReference { Name: "Barrier" or "Await" or "KillMaps" });
    }

    [Fact]
    public void T17_a_batch_is_completed_once()
    {
        var batch = new InvalidationBatch();
        Assert.Equal(new InvalidationReport(0, 0), batch.Complete());
        Assert.Throws<InvalidOperationException>(() => batch.Complete());
    }
}
