using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Sync;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.TokenTests;

/// <summary>T12, clause by clause.</summary>
public sealed class MakingTests
{
    [Fact]
    public void T12_creators_are_serialised_and_the_second_finds_the_map_of_the_first()
    {
        using var stage = new TokenStage();
        using var second = new IoContext("second");
        Actor? other = null;
        DmaMap? seen = null;
        stage.Driver.InMap = () =>
        {
            if (other is not null)
                return;
            other = Actor.Start("second creator", () => seen = stage.Take(second));
            other.UntilItWaitsFor("creators of maps");
        };
        DmaMap made = stage.Take();
        other!.Join();
        Assert.Same(made, seen);
        Assert.Equal((1, 1L), (stage.Driver.MapCalls, stage.Token.MapsMade));
        Assert.Equal(2, stage.State()!.Users);
        stage.Drop(made);
        stage.Drop(made, second);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void T12_a_creator_waits_for_the_drain_of_an_earlier_map_also_one_that_someone_else_killed(bool byInvalidation)
    {
        using var stage = new TokenStage(new TokenOptions { Design = InvalidationDesign.Fenced });
        using var second = new IoContext("second");
        DmaMap old = stage.Take();
        if (byInvalidation)
            stage.Invalidate();
        else
            stage.Token.KillMaps();
        Actor creator = Actor.Start("creator", () => stage.Drop(stage.Take(second), second));
        creator.UntilItWaitsFor("before a new map");
        Assert.Equal(1, stage.Driver.MapCalls);
        Assert.Null(stage.LockState().Holder);
        stage.Drop(old);
        creator.Join();
        Assert.Equal(2, stage.Driver.MapCalls);
    }

    [Fact]
    public void T12_an_exporters_move_is_waited_for_under_the_lock()
    {
        using var stage = new TokenStage();
        var move = new DmaFence("move", DmaFence.NewContext(), 1);
        Actor creator;
        using (ReservationGuard guard = stage.Buffer.Reservation.Hold())
        {
            // The creator is past every wait before the lock when it stands in line for it.
            creator = Actor.Start("creator", () => stage.Drop(stage.Take()));
            creator.UntilItWaitsFor(stage.LockText);
            stage.Buffer.Reservation.Reserve(guard.Held, 1);
            stage.Buffer.Reservation.Add(guard.Held, move, FenceUsage.Kernel);
        }

        creator.UntilItWaitsFor("fence move");
        Assert.Equal(creator.Name, stage.LockState().Holder);
        Assert.Equal(0, stage.Driver.MapCalls);
        move.Signal();
        creator.Join();
        Assert.Equal(1, stage.Driver.MapCalls);
    }

    [Fact]
    public void T12_a_job_that_writes_the_buffer_is_waited_for_without_the_lock_so_that_the_job_may_take_it()
    {
        using var stage = new TokenStage();
        var early = new DmaFence("early job", DmaFence.NewContext(), 1);
        var late = new DmaFence("late job", DmaFence.NewContext(), 1);
        AddFence(stage, early, FenceUsage.Write);
        Actor creator = Actor.Start("creator", () => stage.Drop(stage.Take()));
        creator.UntilItWaitsFor("fence early job");
        using (ReservationGuard guard = stage.Buffer.Reservation.Hold())
        {
            early.Signal();
            creator.UntilItWaitsFor(stage.LockText);
            stage.Buffer.Reservation.Reserve(guard.Held, 1);
            stage.Buffer.Reservation.Add(guard.Held, late, FenceUsage.Write);
        }

        // A job that came while it stood in line is seen under the lock, and waited for outside it (D1).
        creator.UntilItWaitsFor("fence late job");
        Assert.Null(stage.LockState().Holder);
        Assert.Equal(0, stage.Driver.MapCalls);
        late.Signal();
        creator.Join();
        Assert.Equal(1, stage.Driver.MapCalls);
    }

    [Theory]
    [InlineData(FenceUsage.Write, FenceUsage.Kernel, true)]
    [InlineData(FenceUsage.Write, FenceUsage.Write, true)]
    [InlineData(FenceUsage.Write, FenceUsage.Read, false)]
    [InlineData(FenceUsage.Write, FenceUsage.Bookkeep, false)]
    [InlineData(FenceUsage.Kernel, FenceUsage.Kernel, true)]
    [InlineData(FenceUsage.Kernel, FenceUsage.Write, false)]
    [InlineData(FenceUsage.Read, FenceUsage.Read, true)]
    public void T12_the_class_waited_for_is_a_choice_and_by_default_KERNEL_and_WRITE(FenceUsage waitBeforeMap, FenceUsage usage, bool waits)
    {
        Assert.Equal(FenceUsage.Write, TokenOptions.Default.WaitBeforeMap);
        using var stage = new TokenStage(new TokenOptions { WaitBeforeMap = waitBeforeMap });
        var job = new DmaFence("job", DmaFence.NewContext(), 1);
        AddFence(stage, job, usage);
        Actor creator = Actor.Start("creator", () => stage.Drop(stage.Take()));
        if (waits)
        {
            creator.UntilItWaitsFor("fence job");
            Assert.Equal(0, stage.Driver.MapCalls);
            job.Signal();
        }

        creator.Join();
        Assert.Equal(1, stage.Driver.MapCalls);
        job.Signal();
    }

    [Fact]
    public void T12_a_map_is_counted_and_published_before_the_lock_is_given_back()
    {
        using var stage = new TokenStage();
        Actor? invalidator = null;
        InvalidationReport report = default;
        stage.Driver.InMap = () =>
        {
            invalidator = Actor.Start("invalidator", () => report = stage.Invalidate());
            invalidator.UntilItWaitsFor(stage.LockText);
        };
        DmaMap made = stage.Take();

        // The invalidation got the lock from the creator: in the gap it would have found nothing and returned.
        invalidator!.UntilItWaitsFor("drain of");
        Assert.True(made.IsKilled);
        stage.Driver.InMap = null;
        stage.Drop(made);
        invalidator.Join();
        Assert.Equal(new InvalidationReport(1, 1), report);
    }

    [Theory]
    [InlineData("creators of maps")]
    [InlineData("before a new map")]
    [InlineData("fence job")]
    [InlineData("reservation lock of")]
    [InlineData("fence move")]
    public void T12_every_wait_of_a_creator_is_interruptible(string wait)
    {
        using var stage = new TokenStage();
        using var second = new IoContext("second");
        using var interrupt = new CancellationTokenSource();
        using var letGo = new ManualResetEventSlim();
        var fence = new DmaFence(wait.Replace("fence ", string.Empty, StringComparison.Ordinal), DmaFence.NewContext(), 1);
        DmaMap? old = null;
        Actor? helper = null;
        switch (wait)
        {
            case "creators of maps":
                stage.Driver.InMap = () => letGo.Wait(Actor.Limit, CancellationToken.None);
                helper = Actor.Start("first creator", () => stage.Drop(stage.Take()));
                Actor.Until(() => stage.Driver.MapCalls == 1, "the first creator is inside the driver");
                break;
            case "before a new map":
                old = stage.Take();
                stage.Token.KillMaps();
                break;
            case "fence job":
                AddFence(stage, fence, FenceUsage.Write);
                break;
            case "fence move":
                // Only under the lock may the kernel fence be met.
                using (ReservationGuard guard = stage.Buffer.Reservation.Hold())
                {
                    Actor early = Actor.Start("creator", () => Assert.Equal(Errno.EINTR, stage.TryTake(out _, interrupt.Token, second)));
                    early.UntilItWaitsFor(stage.LockText);
                    stage.Buffer.Reservation.Reserve(guard.Held, 1);
                    stage.Buffer.Reservation.Add(guard.Held, fence, FenceUsage.Kernel);
                    helper = early;
                }

                break;
            default:
                helper = Actor.Start("exporter", () =>
                {
                    using ReservationGuard guard = stage.Buffer.Reservation.Hold();
                    Assert.True(letGo.Wait(Actor.Limit, CancellationToken.None));
                });
                Actor.Until(() => stage.Buffer.Reservation.IsLocked, "the exporter holds the lock");
                break;
        }

        Actor creator = wait == "fence move" ? helper!
            : Actor.Start("creator", () => Assert.Equal(Errno.EINTR, stage.TryTake(out _, interrupt.Token, second)));
        creator.UntilItWaitsFor(wait);
        interrupt.Cancel();
        creator.Join();
        letGo.Set();
        helper?.Join();
        fence.Signal();
        stage.Driver.InMap = null;
        if (old is not null)
            stage.Drop(old);

        // Nothing was left locked or half made.
        stage.Drop(stage.Take(second), second);
        Actor.Until(() => !stage.Buffer.Reservation.IsLocked, "the workers have given the lock back too");
    }

    [Fact]
    public void T12_a_wounded_creator_gives_the_lock_back_and_starts_again()
    {
        using var stage = new TokenStage();
        var older = new AcquireContext();
        var move = new DmaFence("move", DmaFence.NewContext(), 1);
        Actor creator;
        using (ReservationGuard guard = stage.Buffer.Reservation.Hold())
        {
            creator = Actor.Start("creator", () => stage.Drop(stage.Take()));
            creator.UntilItWaitsFor(stage.LockText);
            stage.Buffer.Reservation.Reserve(guard.Held, 1);
            stage.Buffer.Reservation.Add(guard.Held, move, FenceUsage.Kernel);
        }

        creator.UntilItWaitsFor("fence move");

        // An older locker, whose progress the fence needs, takes the lock away from the creator (D1 is what happens otherwise).
        using (stage.Buffer.Reservation.Hold(older))
            move.Signal();
        creator.Join();
        Assert.Equal(1, stage.Driver.MapCalls);
    }

    [Fact]
    public void T12_a_creator_that_was_interrupted_while_it_backed_off_does_not_try_again()
    {
        using var stage = new TokenStage();
        using var interrupt = new CancellationTokenSource();
        DmaFence? move = null;
        move = new DmaFence("move", DmaFence.NewContext(), 1, () =>
        {
            // On the creator, which holds the lock: the last of its waits ends well, and the interruption comes with it.
            interrupt.Cancel();
            move!.Signal();
        });
        DmaFence? job = null;
        job = new DmaFence("job", DmaFence.NewContext(), 1, () => job!.Signal());
        Actor creator;
        using (ReservationGuard guard = stage.Buffer.Reservation.Hold())
        {
            creator = Actor.Start("creator", () => Assert.Equal(Errno.EINTR, stage.TryTake(out _, interrupt.Token)));
            creator.UntilItWaitsFor(stage.LockText);
            stage.Buffer.Reservation.Reserve(guard.Held, 2);
            stage.Buffer.Reservation.Add(guard.Held, move, FenceUsage.Kernel);
            stage.Buffer.Reservation.Add(guard.Held, job, FenceUsage.Write);
        }

        creator.Join();

        // It backed off for the job, which nobody has waited for yet.
        Assert.Equal((true, false, 0), (move.IsSignaled, job.IsSignaled, stage.Driver.MapCalls));
        Assert.False(stage.Buffer.Reservation.IsLocked);
        stage.Drop(stage.Take());
    }

    [Fact]
    public void T12_a_map_that_fails_leaves_the_lock_free_and_the_next_request_tries_again()
    {
        using var stage = new TokenStage();
        stage.Driver.InMap = static () => throw new DmaBufIoException(Errno.ENOMEM, "Test", "map", "no memory", "nothing");
        Assert.Equal(Errno.ENOMEM, stage.TryTake(out _, TestContext.Current.CancellationToken));
        Assert.Equal((false, Errno.ENOMEM), (stage.Buffer.Reservation.IsLocked, stage.Token.LastMapError!.Errno));
        stage.Driver.InMap = null;
        stage.FailedMaps = 1;
        stage.Drop(stage.Take());
    }

    internal static void AddFence(TokenStage stage, DmaFence fence, FenceUsage usage)
    {
        using ReservationGuard guard = stage.Buffer.Reservation.Hold();
        stage.Buffer.Reservation.Reserve(guard.Held, 1);
        stage.Buffer.Reservation.Add(guard.Held, fence, usage);
    }
}
