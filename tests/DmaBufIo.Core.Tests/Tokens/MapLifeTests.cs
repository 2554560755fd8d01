using System.Reflection;
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

public sealed class MapLifeTests
{
    [Fact]
    public void T4_there_is_no_map_until_a_request_needs_one_and_then_one_for_all()
    {
        using var stage = new TokenStage();
        Assert.Equal((0, 0, null), (stage.Token.Maps, stage.Driver.MapCalls, stage.Token.LiveGeneration));
        Assert.Null(stage.TakeLive());
        DmaMap first = stage.Take();
        DmaMap second = stage.Take();
        Assert.Same(first, second);
        Assert.Equal((1, 1L), (stage.Driver.MapCalls, stage.Token.MapsMade));
        stage.Drop(first);
        stage.Drop(second);
    }

    [Fact]
    public void T4_a_token_outlives_its_maps()
    {
        using var stage = new TokenStage();
        for (int i = 1; i <= 5; i++)
        {
            stage.Drop(stage.Take());
            Assert.Equal(i, stage.Token.LiveGeneration);
            Assert.Equal(new InvalidationReport(1, 0), stage.Invalidate());
            Assert.Null(stage.Token.LiveGeneration);
        }

        Assert.Equal(5, stage.Token.MapsMade);
        Assert.Equal(new InvalidationReport(0, 0), stage.Invalidate());
    }

    [Fact]
    public void T5_map_and_unmap_run_with_the_lock_held_and_release_runs_without_it()
    {
        using var stage = new TokenStage();
        var held = new List<(string Operation, bool Held)>();
        stage.Driver.InMap = () => held.Add(("map", stage.Buffer.Reservation.IsHeldByCurrentThread));
        stage.Driver.InUnmap = _ => held.Add(("unmap", stage.Buffer.Reservation.IsHeldByCurrentThread));
        stage.Driver.InRelease = () => held.Add(("release", stage.Buffer.Reservation.IsHeldByCurrentThread));
        stage.Drop(stage.Take());
        stage.Release();
        Assert.Equal([("map", true), ("unmap", true), ("release", false)], held);
    }

    [Fact]
    public void T5_map_unmap_and_release_may_sleep()
    {
        using var stage = new TokenStage();
        var refused = new List<string>();
        void Sleep(string operation)
        {
            if (NoSleepContext.IsActive)
                refused.Add(operation);
        }

        stage.Driver.InMap = () => Sleep("map");
        stage.Driver.InUnmap = _ => Sleep("unmap");
        stage.Driver.InRelease = () => Sleep("release");
        DmaMap map = stage.Take();
        stage.Token.Release();
        Actor.Until(() => map.IsKilled, "the release kills the map");
        stage.Drop(map);
        stage.Release();
        Assert.Empty(refused);
    }

    [Fact]
    public void T5_the_lock_of_another_buffer_is_no_proof()
    {
        using var stage = new TokenStage();
        using var other = new TokenStage();
        using ReservationGuard guard = other.Buffer.Reservation.Hold();
        try
        {
            stage.Buffer.InvalidateMappings(guard.Held);
            Assert.Fail("the lock of another buffer was taken for this one's");
        }
        catch (DmaBufIoException refused)
        {
            Assert.Equal((Errno.EINVAL, "T5"), (refused.Errno, refused.Rule));
        }
    }

    [Fact]
    public void T6_taking_and_dropping_a_reference_allocates_nothing()
    {
        using var stage = new TokenStage();
        DmaMap keep = stage.Take();
        stage.Context.Enter();
        long allocated = -1;
        for (int round = 0; round < 2; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 10_000; i++)
                DmaBufToken.Drop(stage.Token.TryGetMap(stage.Context)!, stage.Context);
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        }

        stage.Context.Leave();
        stage.Drop(keep);
        Assert.Equal(0, allocated);
    }

    [Theory]
    [InlineData(typeof(DmaBufToken), "TryGetMap")]
    [InlineData(typeof(DmaBufToken), "Drop")]
    [InlineData(typeof(RequestGate), "TryEnter")]
    [InlineData(typeof(RequestGate), "Exit")]
    [InlineData(typeof(IoContext), "Enter")]
    [InlineData(typeof(IoContext), "Leave")]
    public void T6_the_hot_path_takes_no_lock_and_uses_no_interlocked_instruction(Type type, string method)
    {
        // The one interlocked decrement in Exit serves contexts without a slot of their own, in a branch of its own.
        string[] allowed = method == "Exit" ? ["System.Threading.Interlocked::Decrement"] : [];
        using AssemblyDefinition assembly = AssemblyDefinition.ReadAssembly(type.Assembly.Location);
        MethodDefinition body = assembly.MainModule.GetType(type.FullName).Methods.Single(m => m.Name == method);
        string[] calls =
        [
            .. body.Body.Instructions.Where(static i => i.OpCode.FlowControl == FlowControl.Call)
                .Select(static i => (MethodReference)i.Operand)
                .Select(static m => $"{m.DeclaringType.FullName}::{m.Name}"),
        ];
        string[] forbidden = [.. calls.Where(static c => c.Contains(".Interlocked::", StringComparison.Ordinal)
            || c.Contains(".Monitor::", StringComparison.Ordinal) || c.Contains("Threading.Lock", StringComparison.Ordinal)).Except(allowed)];
        Assert.Empty(forbidden);
    }

    [Fact]
    public void T6_two_contexts_count_on_cache_lines_of_their_own()
    {
        int stride = (int)typeof(RequestGate).GetField("Stride", BindingFlags.NonPublic | BindingFlags.Static)!.GetValue(null)!;
        Assert.True(stride * sizeof(long) >= 128, $"the counts of two contexts are {stride * sizeof(long)} bytes apart");
        using var first = new IoContext("first");
        using var second = new IoContext("second");
        Assert.NotEqual(first.Slot, second.Slot);
    }

    [Theory]
    [InlineData(typeof(RequestGate), "Barrier", "MemoryBarrierProcessWide")]
    [InlineData(typeof(IoContext), "CompleteVisit", "Barrier")]
    [InlineData(typeof(DmaBufToken), "KillMaps", "Barrier")]
    public void T6_T14_whoever_comes_seldom_pays_for_the_order_with_a_process_wide_barrier(Type type, string method, string barrier)
    {
        using AssemblyDefinition assembly = AssemblyDefinition.ReadAssembly(type.Assembly.Location);
        MethodDefinition body = assembly.MainModule.GetType(type.FullName).Methods.Single(m => m.Name == method);
        Assert.Single(body.Body.Instructions, i => i.Operand is MethodReference called && called.Name == barrier);
    }

    [Fact]
    public void T7_taking_a_reference_on_a_killed_map_fails_and_the_next_one_makes_a_new_map()
    {
        using var stage = new TokenStage();
        DmaMap old = stage.Take();
        stage.Token.KillMaps();
        Assert.True(old.IsKilled);
        Assert.Null(stage.TakeLive());
        stage.Drop(old);
        DmaMap fresh = stage.Take();
        Assert.NotSame(old, fresh);
        stage.Drop(fresh);
    }

    [Fact]
    public void T7_who_may_not_sleep_is_told_to_try_again()
    {
        using var stage = new Stage(ring: new RingOptions { Name = "nowait", Entries = 4, NoWait = true });
        stage.Read();
        Assert.Equal(new RingCompletion(1, Errno.EAGAIN, 0), Assert.Single(stage.Run()));
        Assert.Equal((0L, 0), (stage.Token.MapsMade, stage.Ring.InFlight));
    }

    [Fact]
    public void T8_unmap_runs_once_after_the_last_reference_on_a_thread_that_did_not_drop_it()
    {
        using var workers = new WorkQueue("one-worker", 1);
        using var stage = new TokenStage(new TokenOptions { Workers = workers });
        Thread? unmapper = null;
        stage.Driver.InUnmap = _ => unmapper = Thread.CurrentThread;
        DmaMap map = stage.Take();
        stage.Take();
        stage.Token.KillMaps();
        stage.Token.KillMaps();
        stage.Drop(map);

        // One reference is left, so the map is: the worker has nothing to do.
        Assert.True(workers.Flush(TestContext.Current.CancellationToken));
        Assert.Equal((0, 1), (stage.Driver.UnmapCalls, stage.Token.Maps));
        Assert.Equal(1, Assert.Single(stage.Killed()).Users);
        stage.Drop(map);
        stage.UntilUnmapped();
        Assert.Equal(1, stage.Driver.UnmapCalls);
        Assert.NotNull(unmapper);
        Assert.NotSame(Thread.CurrentThread, unmapper);
        stage.Release();
        Assert.Equal(1, stage.Driver.UnmapCalls);
    }

    [Fact]
    public void T8_dropping_the_last_reference_does_not_wait_for_the_lock_that_unmap_needs()
    {
        using var stage = new TokenStage();
        DmaMap map = stage.Take();
        stage.Token.KillMaps();
        using (stage.Buffer.Reservation.Hold())
        {
            // This thread holds the lock: if the drop unmapped or waited for it, it would fail or hang here.
            stage.Drop(map);
            Assert.Equal(0, stage.Driver.UnmapCalls);
        }

        stage.UntilUnmapped();
    }

    [Fact]
    public void T8_a_table_that_was_given_back_is_not_given_back_again()
    {
        using var stage = new TokenStage();
        using ReservationGuard guard = stage.Buffer.Reservation.Hold();
        DmaAttachment attachment = stage.Buffer.Attach(stage.Device, stage.Driver);
        SgTable table = attachment.Map(Dma.DmaDirection.FromDevice, guard.Held);
        attachment.Unmap(table, guard.Held);
        try
        {
            attachment.Unmap(table, guard.Held);
            Assert.Fail("the table was unmapped twice");
        }
        catch (DmaBufIoException refused)
        {
            Assert.Equal((Errno.EINVAL, "T8"), (refused.Errno, refused.Rule));
        }

        stage.Buffer.Detach(attachment, stage.Driver);
    }

    [Fact]
    public void T9_a_reader_that_raced_with_the_kill_finds_the_map_closed_long_after_it_was_unmapped()
    {
        using var stage = new TokenStage();
        DmaMap map = stage.Take();
        RequestGate gate = Gate(map);
        stage.Drop(map);
        stage.Invalidate();
        stage.UntilUnmapped();

        // What the reader does that had loaded the pointer before the kill and goes on only now.
        stage.Context.Enter();
        for (int i = 0; i < 1000; i++)
            Assert.False(gate.TryEnter(stage.Context.Slot));
        stage.Context.Leave();
        Assert.Equal((0L, true), (gate.Users, gate.IsDrained));
        Assert.Equal(1, stage.Driver.UnmapCalls);
    }

    private static RequestGate Gate(DmaMap map) =>
        (RequestGate)typeof(DmaMap).GetProperty("Gate", BindingFlags.Instance | BindingFlags.NonPublic)!.GetValue(map)!;
}
