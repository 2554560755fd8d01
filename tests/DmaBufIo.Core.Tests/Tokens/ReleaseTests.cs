using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Rings;
using DmaBufIo.Sync;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.TokenTests;

public sealed class ReleaseTests
{
    [Fact]
    public void T10_no_new_map_after_the_release_has_begun()
    {
        using var stage = new TokenStage();
        DmaMap map = stage.Take();
        stage.Token.Release();
        Actor.Until(() => map.IsKilled, "the release kills the live map");
        stage.Drop(map);
        Assert.Equal(Errno.ESHUTDOWN, stage.TryTake(out _, TestContext.Current.CancellationToken));
        Assert.Equal(1, stage.Driver.MapCalls);
    }

    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void T10_the_order_is_maps_then_the_drivers_release_then_the_references(InvalidationDesign design)
    {
        using var stage = new TokenStage(new TokenOptions { Design = design });
        var order = new List<string>();
        stage.Driver.InUnmap = _ => order.Add("unmap");
        stage.Driver.InRelease = () => order.Add(
            $"release with {stage.Token.Maps} maps, {stage.Buffer.References} and {stage.Owner.References} references");
        stage.Owner.InPut = () => order.Add("put of the file");
        DmaMap map = stage.Take();
        stage.Token.Release();
        Actor.Until(() => map.IsKilled, "the release kills the live map");
        Assert.Empty(order);
        stage.Drop(map);
        stage.Release();
        Assert.Equal(["unmap", "release with 0 maps, 2 and 1 references", "put of the file"], order);
    }

    [Fact]
    public void T10_a_release_while_the_exporter_holds_the_lock_returns_and_finishes_when_it_lets_go()
    {
        using var stage = new TokenStage();
        stage.Drop(stage.Take());
        using (stage.Buffer.Reservation.Hold())
        {
            stage.Token.Release();
            Actor.Until(() => stage.Killed() is [{ Users: 0 }], "the map is killed and drained");
            Assert.False(stage.Token.IsReleased);
            Assert.Equal((0, 0, 1), (stage.Driver.UnmapCalls, stage.Driver.ReleaseCalls, stage.Owner.References));
        }

        stage.Release();
    }

    [Fact]
    public void T10_a_release_is_never_done_by_the_thread_that_asks_for_it()
    {
        using var stage = new TokenStage();
        Thread? releaser = null;
        stage.Driver.InRelease = () => releaser = Thread.CurrentThread;

        // Completion context: here the thread may not sleep.
        stage.Context.Enter();
        stage.Token.Release();
        stage.Context.Leave();
        stage.Release();
        Assert.NotNull(releaser);
        Assert.NotSame(Thread.CurrentThread, releaser);
    }

    [Fact]
    public void T10_the_last_completion_may_be_what_drops_the_registration()
    {
        using var stage = new Stage();
        stage.Device.Hold = true;
        for (ulong i = 0; i < 4; i++)
            stage.Read(4096, (long)i * 4096, 0, i);
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        DmaBufToken token = stage.Ring.RemoveBuffer(0).Token!;
        Assert.Equal(3, stage.Device.Finish(3));
        stage.Reap(3);
        Assert.False(token.IsReleasing);
        stage.Device.Finish();

        // While an exporter holds the lock, so that a release done in place would hang or fail here.
        using (stage.Exporter.Buffer.Reservation.Hold())
            Assert.Equal(Errno.Ok, Assert.Single(stage.Reap(1)).Status);
        using var limit = new CancellationTokenSource(Actor.Limit);
        Assert.Equal(Errno.Ok, token.WaitReleased(limit.Token));
        Assert.Equal((0, 1), (stage.Device.LiveTokens, stage.Exporter.Buffer.References));
    }

    [Fact]
    public void T10_a_release_waits_for_a_map_that_is_being_made()
    {
        using var workers = new WorkQueue("one-worker", 1);
        using var stage = new TokenStage(new TokenOptions { Workers = workers });
        int releasesSeen = -1;
        stage.Driver.InMap = () =>
        {
            stage.Token.Release();

            // The worker has looked at the release: whatever it thinks it may do now is done.
            Assert.True(workers.Flush(TestContext.Current.CancellationToken));
            releasesSeen = stage.Driver.ReleaseCalls;
        };
        Assert.Equal(Errno.ESHUTDOWN, stage.TryTake(out _, TestContext.Current.CancellationToken));
        Assert.Equal((0, 1, 1), (releasesSeen, stage.Driver.MapCalls, stage.Driver.UnmapCalls));
        stage.Release();
        Assert.Equal((0, 1), (stage.Owner.References, stage.Buffer.References));
    }

    [Fact]
    public void T10_a_driver_whose_release_throws_is_reported_and_the_references_go_all_the_same()
    {
        using var stage = new TokenStage();
        var faults = new List<string>();
        void Note(DriverFault fault)
        {
            if (fault.Callback.Contains(stage.Token.Name, StringComparison.Ordinal))
                faults.Add($"{fault.Callback.Split(' ')[0]}: {fault.Exception.Message}");
        }

        DmaBufIoDiagnostics.DriverFaulted += Note;
        int thrown = 0;
        stage.Driver.InRelease = () =>
        {
            if (thrown++ == 0)
                throw new InvalidOperationException("release fails");
        };
        stage.Drop(stage.Take());
        stage.Release();
        DmaBufIoDiagnostics.DriverFaulted -= Note;
        Assert.Equal(["Release: release fails"], faults);
        Assert.Equal((0, 1, 0), (stage.Owner.References, stage.Buffer.References, stage.Buffer.Attachments));
        stage.Driver.Release();
    }

    [Fact]
    public void T10_a_driver_whose_map_throws_ends_the_request_and_leaves_nothing()
    {
        using var stage = new Stage();
        stage.Device.FailMap = static () => new NotSupportedException("a driver's bug");
        stage.Read();
        Assert.Equal(new RingCompletion(1, Errno.EIO, 0), Assert.Single(stage.Run()));
        Assert.IsType<NotSupportedException>(stage.Token.LastMapError!.InnerException);
        stage.Device.FailMap = static () => new DmaBufIoException(Errno.ENOSPC, "Test", "map", "no room", "nothing");
        stage.Read();
        Assert.Equal(new RingCompletion(1, Errno.ENOSPC, 0), Assert.Single(stage.Run()));
        stage.Device.FailMap = null;
        stage.Read();
        Assert.Equal(new RingCompletion(1, Errno.Ok, 4096), Assert.Single(stage.Run()));
        Assert.Null(stage.Token.LastMapError);
    }
}
