using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Rings;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.TokenTests;

public sealed class RemovalTests
{
    [Fact]
    public void T11_a_reset_kills_the_maps_and_does_not_wait_and_the_next_request_makes_a_new_one()
    {
        using var stage = new Stage();
        stage.Device.Hold = true;
        stage.Read(userData: 1);
        stage.Ring.Submit(TestContext.Current.CancellationToken);

        // A request is in flight on this very thread: a reset that waited would hang here.
        stage.Device.Device.KillMaps();
        Assert.Null(stage.Token.LiveGeneration);
        stage.Device.CancelHeld(Errno.ECANCELED);
        Assert.Equal(new RingCompletion(1, Errno.ECANCELED, 0), Assert.Single(stage.Reap(1)));
        stage.Device.Hold = false;
        stage.Read(userData: 2);
        Assert.Equal(new RingCompletion(2, Errno.Ok, 4096), Assert.Single(stage.Run()));
        Assert.Equal(2, stage.Token.MapsMade);
    }

    [Fact]
    public void T11_a_cancelled_request_ends_and_keeps_no_reference()
    {
        using var stage = new Stage();
        stage.Device.Hold = true;
        for (ulong i = 0; i < 4; i++)
            stage.Read(userData: i);
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        stage.Device.CancelHeld(Errno.ECANCELED);
        Assert.All(stage.Reap(4), static c => Assert.Equal(Errno.ECANCELED, c.Status));
        Assert.Equal(0, stage.Ring.InFlight);
        using ReservationGuard guard = stage.Exporter.Buffer.Reservation.Hold();
        Assert.Equal(new InvalidationReport(1, 0), stage.Exporter.Buffer.InvalidateMappings(guard.Held));
    }

    [Fact]
    public void T11_a_removal_waits_until_every_map_is_unmapped()
    {
        using var stage = new TokenStage();
        DmaMap map = stage.Take();
        Actor remover = Actor.Start("remover", stage.Device.Remove);
        remover.UntilItWaitsFor("unmapping of");
        Assert.True(map.IsKilled);
        Assert.Equal(0, stage.Driver.UnmapCalls);

        // The requests have ended; as long as an exporter holds the lock the removal goes on waiting.
        using (stage.Buffer.Reservation.Hold())
        {
            stage.Drop(map);
            Actor.Until(() => stage.Killed() is [{ Users: 0 }], "the map has drained");
            Assert.False(remover.IsDone);
        }

        remover.Join();
        Assert.Equal((1, 0), (stage.Driver.UnmapCalls, stage.Token.Maps));
    }

    [Fact]
    public void T11_after_the_removal_the_token_and_every_new_registration_answer_ENODEV()
    {
        using var stage = new Stage();
        stage.Read();
        Assert.Equal(Errno.Ok, Assert.Single(stage.Run()).Status);
        stage.Device.Device.Remove();
        stage.Read();
        Assert.Equal(new RingCompletion(1, Errno.ENODEV, 0), Assert.Single(stage.Run()));
        Assert.Equal(0, stage.Ring.InFlight);
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(
            () => stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File }));
        Assert.Equal((Errno.ENODEV, "T11"), (refused.Errno, refused.Rule));
        using ReservationGuard guard = stage.Exporter.Buffer.Reservation.Hold();
        Assert.Equal(1, stage.Token.MapsMade);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void T11_a_removal_that_races_with_a_creation_waits_for_it_and_the_map_never_appears(bool afterMapping)
    {
        using var stage = new TokenStage();
        Actor? remover = null;
        bool removedWhileMaking = false;
        void Remove()
        {
            remover = Actor.Start("remover", stage.Device.Remove);
            remover.UntilItWaitsFor("unmapping of");
        }

        if (afterMapping)
            stage.Driver.AfterMap = Remove;
        else
            stage.Driver.InMap = Remove;
        stage.Driver.InUnmap = _ => removedWhileMaking = !remover!.IsDone;

        // The exporter's own map finds the device gone, or Core does when it would publish: either way nothing is left.
        Assert.Equal(Errno.ENODEV, stage.TryTake(out DmaMap? map, TestContext.Current.CancellationToken));
        Assert.Null(map);
        remover!.Join();
        Assert.Null(stage.TakeLive());
        Assert.Equal(0, stage.Token.Maps);
        Assert.Equal((afterMapping ? 1 : 0, afterMapping), (stage.Driver.UnmapCalls, removedWhileMaking));
        stage.FailedMaps = 1 - stage.Driver.UnmapCalls;
        Assert.Equal(0, stage.Iommu.LiveMappings);
    }

    [Fact]
    public void T11_a_device_that_goes_after_the_driver_has_mapped_finds_the_map_undone_under_the_same_hold()
    {
        using var stage = new TokenStage();
        Actor? other = null;
        bool otherHadTheLock = false;
        bool lockHeld = false;
        stage.Driver.AfterMap = () =>
        {
            stage.Device.MarkRemoved();
            other = Actor.Start("other", () =>
            {
                using ReservationGuard guard = stage.Buffer.Reservation.Hold();
                Volatile.Write(ref otherHadTheLock, true);
            });
            other.UntilItWaitsFor(stage.LockText);
        };
        bool betweenHolds = true;
        stage.Driver.InUnmap = _ =>
        {
            lockHeld = stage.Buffer.Reservation.IsHeldByCurrentThread;
            betweenHolds = Volatile.Read(ref otherHadTheLock);
        };
        Assert.Equal(Errno.ENODEV, stage.TryTake(out _, TestContext.Current.CancellationToken));
        other!.Join();
        Assert.Equal((1, 1, true, false), (stage.Driver.MapCalls, stage.Driver.UnmapCalls, lockHeld, betweenHolds));
        Assert.Equal(0, stage.Token.MapsMade);
    }

    [Fact]
    public void T11_a_token_on_two_files_of_one_device_loses_both_with_it()
    {
        using var stage = new TokenStage();
        using var second = new TokenStage(buffer: stage.Buffer, iommu: stage.Iommu, device: stage.Device);
        stage.Drop(stage.Take());
        second.Drop(second.Take());
        stage.Device.Remove();
        Assert.Equal((0, 0), (stage.Token.Maps, second.Token.Maps));
        Assert.Equal(Errno.ENODEV, stage.TryTake(out _, TestContext.Current.CancellationToken));
        Assert.Equal(Errno.ENODEV, second.TryTake(out _, TestContext.Current.CancellationToken));
        Assert.Equal("Dead", stage.State()!.State);
    }
}
