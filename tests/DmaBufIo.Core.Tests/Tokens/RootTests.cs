using System.Runtime.CompilerServices;
using DmaBufIo.DmaBufs;
using DmaBufIo.Sync;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.TokenTests;

/// <summary>A map is an object of its plugin: valid while anyone looks at it (T9), gone when it is unmapped.</summary>
public sealed class RootTests
{
    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void T9_a_map_that_was_unmapped_is_kept_neither_by_its_fence_nor_by_a_thread_that_has_waited(InvalidationDesign design)
    {
        using var stage = new TokenStage(new TokenOptions { Design = design });
        Collected.AssertGone(UseAndInvalidate(stage), "the map");

        // The token, the buffer with its fences, and the thread that has waited are all still there.
        Assert.Equal(1, stage.Driver.UnmapCalls);
        GC.KeepAlive(Parker.Current);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static WeakReference UseAndInvalidate(TokenStage stage)
    {
        DmaMap map = stage.Take();
        string me = Parker.Current.ThreadName;
        Actor user = Actor.Start("user", () =>
        {
            Actor.Until(() => Waits(me, $"map 1 of {stage.Token.Name}"), "the invalidation waits for the request");
            stage.Drop(map);
        });
        stage.Invalidate();
        stage.Buffer.Reservation.Wait(FenceUsage.Bookkeep, TestContext.Current.CancellationToken);
        user.Join();
        stage.UntilUnmapped();
        return new WeakReference(map);
    }

    private static bool Waits(string thread, string text) => Diagnostics.DmaBufIoDiagnostics.Snapshot().Waits.Any(
        w => w.Thread == thread && w.WaitsFor.Contains(text, StringComparison.Ordinal));
}
