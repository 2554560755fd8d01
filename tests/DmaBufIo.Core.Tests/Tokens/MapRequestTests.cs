using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Sync;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.TokenTests;

/// <summary>Maps that workers make for those who may not sleep.</summary>
public sealed class MapRequestTests
{
    [Fact]
    public void T7_T12_a_worker_makes_the_map_and_the_one_who_asked_does_not_wait()
    {
        using var stage = new TokenStage();
        var waiter = new Waiter();
        Actor asker;
        using (stage.Buffer.Reservation.Hold())
        {
            asker = Actor.Start("asker", () =>
            {
                stage.Context.Enter(); // where it may not sleep
                stage.Token.RequestMap(waiter);
                stage.Token.RequestMap(waiter);
                stage.Context.Leave();
            });
            asker.Join();
            Assert.Equal((0, 0), (waiter.Ready, stage.Driver.MapCalls));
        }

        Actor.Until(() => waiter.Ready == 1, "the map is there");
        Actor.Until(() => stage.State()!.Users == 0, "the worker drops its reference");
        Assert.Equal((1, 0, 1), (waiter.Ready, waiter.Failed.Count, stage.Driver.MapCalls));
        Assert.Equal(1, waiter.UsersSeen);
        DmaMap map = stage.TakeLive()!;
        stage.Drop(map);

        // One that is there already is told of as well.
        stage.Token.RequestMap(waiter);
        Actor.Until(() => waiter.Ready == 2, "the map is told of");
        Assert.Equal(1, stage.Driver.MapCalls);
    }

    [Fact]
    public void T7_the_map_stays_usable_while_it_is_told_of_although_it_is_killed_meanwhile()
    {
        using var stage = new TokenStage();
        Actor? mover = null;
        bool hasWaited = false;
        var waiter = new Waiter
        {
            OnReady = (token, map, context) =>
            {
                mover = Actor.Start("mover", () => stage.Exporter.Move());
                Actor.Until(() => map.IsKilled, "the map is killed");
                Assert.Null(token.TryGetMap(context));
                mover.UntilItWaitsFor(string.Empty); // for the drain, or for the turn to visit who was told
                hasWaited = !mover.IsDone && stage.Driver.UnmapCalls == 0;
            },
        };
        stage.Token.RequestMap(waiter);
        Actor.Until(() => waiter.Ready == 1, "the map is told of");
        mover!.Join();
        Assert.True(hasWaited, "the move has not waited for the one who was told");
        stage.UntilUnmapped();
    }

    [Fact]
    public void Several_are_told_of_one_map_and_a_waiter_that_throws_costs_the_others_nothing()
    {
        using var stage = new TokenStage();
        Waiter[] waiters = [new(), new() { OnReady = (_, _, _) => throw new InvalidOperationException("a mistake") }, new()];
        using (stage.Buffer.Reservation.Hold())
        {
            foreach (Waiter waiter in waiters)
                stage.Token.RequestMap(waiter);
        }

        Actor.Until(() => Array.TrueForAll(waiters, static w => w.Ready == 1), "all are told");
        Actor.Until(() => stage.State()!.Users == 0, "the worker drops its reference");
        Assert.Equal(1, stage.Driver.MapCalls);
    }

    [Fact]
    public void Who_asks_for_a_map_that_cannot_be_made_is_told_why()
    {
        using var stage = new TokenStage { FailedMaps = 1 };
        var waiter = new Waiter();
        stage.Driver.InMap = () => throw new DmaBufIoException(Errno.ENOMEM, "test", "driver", "no addresses are left", "Wait");
        stage.Token.RequestMap(waiter);
        Actor.Until(() => waiter.Failed.Count == 1, "the failure is told");
        stage.Driver.InMap = null;
        stage.Device.MarkRemoved();
        stage.Token.RequestMap(waiter);
        Actor.Until(() => waiter.Failed.Count == 2, "the removal is told");
        Assert.Equal([Errno.ENOMEM, Errno.ENODEV], waiter.Failed);
        Assert.Equal(0, waiter.Ready);
        stage.Release();
        stage.Token.RequestMap(waiter);
        Actor.Until(() => waiter.Failed.Count == 3, "the release is told");
        Assert.Equal(Errno.ESHUTDOWN, waiter.Failed[2]);
    }

    private sealed class Waiter : IMapWaiter
    {
        private volatile int _ready;

        internal Action<DmaBufToken, DmaMap, IoContext>? OnReady { get; init; }

        internal int Ready => _ready;

        internal long UsersSeen { get; private set; }

        internal List<Errno> Failed { get; } = [];

        public void MapReady(DmaBufToken token, DmaMap map, IoContext context)
        {
            Assert.True(context.IsActive && NoSleepContext.IsActive);
            UsersSeen = Diagnostics.DmaBufIoDiagnostics.Snapshot().Tokens.First(t => t.Token == token.Name).Users;
            try
            {
                OnReady?.Invoke(token, map, context);
            }
            finally
            {
                _ready++;
            }
        }

        public void MapFailed(DmaBufToken token, Errno status) => Failed.Add(status);
    }
}
