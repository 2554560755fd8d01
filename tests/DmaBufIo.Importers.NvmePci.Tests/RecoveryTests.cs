using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Tests.Harness;
using DmaBufIo.Memory;
using DmaBufIo.Pci.Model;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.NvmePci.Tests;

public sealed class RecoveryTests
{
    private const int Requests = 16;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void N8_a_reset_ends_every_request_in_flight_exactly_once_and_the_next_one_makes_a_new_map(bool ownThread) => Rig.With(
        rig =>
        {
            Lane first = rig.Lane();
            Lane second = rig.Lane();
            (DmaBufToken token, TestExporter memory) = rig.Register(1 << 20);
            using var region = MemoryRegion.Allocate("pages", 65536);
            rig.Function.OnWrite = (offset, value) =>
            {
                // It hangs until it is enabled again.
                if (offset == 0x14 && (value & 1) != 0)
                    rig.Model.Stall = false;
                return false;
            };
            for (int round = 1; round <= 3; round++)
            {
                rig.Model.Stall = true;
                first.Forget();
                second.Forget();
                Fill(first, token);
                Fill(second, token);
                Assert.True(second.TrySubmit(BioOperation.Read, new MemoryRange(region, 0, 4096), 0, Requests));
                first.Commit();
                second.Commit();
                rig.Binding.Reset();

                // The visitor has reaped already: nobody polled.
                Assert.Equal((0, 0), (first.Pending, second.Pending));
                AssertEnded(first, Requests, Errno.ECANCELED);
                AssertEnded(second, Requests + 1, Errno.ECANCELED);
                Assert.Equal(round, rig.Binding.Resets);
                Assert.Equal(round, token.MapsMade);

                byte[] data = new byte[8192];
                new Random(round).NextBytes(data);
                memory.Write(4096, data);
                Assert.Equal(Errno.Ok, first.Do(token, BioOperation.Write, 4096, 8192, 0));
                memory.Write(4096, new byte[8192]);
                Assert.Equal(Errno.Ok, second.Do(token, BioOperation.Read, 4096, 8192, 0));
                Assert.Equal(data, memory.Read(4096, 8192));
                Assert.Equal(round + 1, token.MapsMade);
            }
        },
        Rig.Small with { OwnThread = ownThread });

    [Fact]
    public void N8_requests_that_were_answered_before_the_reset_keep_their_answer() => Rig.With(rig =>
    {
        Lane lane = rig.Lane();
        (DmaBufToken token, _) = rig.Register(1 << 20);
        Fill(lane, token);
        lane.Commit();
        rig.Model.Advance();
        Assert.True(lane.TrySubmit(token, BioOperation.Read, 0, 4096, 0, Requests));
        lane.Commit();
        rig.Binding.Reset();
        AssertEnded(lane, Requests, Errno.Ok);
        Assert.Equal((Errno.ECANCELED, 1), (lane.StatusOf(Requests), lane.EndsOf(Requests)));
    });

    [Fact]
    public void T11_resets_under_load_lose_and_double_nothing() => Rig.With(
        rig =>
        {
            Lane lane = rig.Lane(depth: 32);
            (DmaBufToken token, _) = rig.Register(1 << 20);
            using var stop = new ManualResetEventSlim();
            Exception? failure = null;
            var resetter = new Thread(() =>
            {
                try
                {
                    for (int i = 0; i < 50; i++)
                        rig.Binding.Reset();
                }
                catch (DmaBufIoException e)
                {
                    failure = e;
                }

                stop.Set();
            });
            resetter.Start();
            int cookie = 0;
            long ok = 0;
            long canceled = 0;
            while (!stop.IsSet)
            {
                lane.Forget();
                int taken = 0;
                while (taken < 32 && lane.TrySubmit(token, BioOperation.Read, taken * 4096, 4096, taken * 8, taken))
                    taken++;
                lane.Finish();
                for (int i = 0; i < taken; i++)
                {
                    Assert.Equal(1, lane.EndsOf(i));
                    Assert.True(lane.StatusOf(i) is Errno.Ok or Errno.ECANCELED, $"{lane.StatusOf(i)}");
                    ok += lane.StatusOf(i) == Errno.Ok ? 1 : 0;
                    canceled += lane.StatusOf(i) == Errno.ECANCELED ? 1 : 0;
                }

                cookie += taken;
            }

            resetter.Join();
            Assert.Null(failure);
            Assert.Equal(50, rig.Binding.Resets);
            Assert.Equal(cookie, ok + canceled);
            Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 0, 4096, 0));
        },
        Rig.Small with { OwnThread = true });

    [Fact]
    public void T16_a_queue_takes_nothing_while_the_controller_is_being_reset() => Rig.With(rig =>
    {
        Lane lane = rig.Lane();
        bool? taken = null;
        rig.Function.OnWrite = (offset, value) =>
        {
            // The controller is about to be enabled again: the owner's batch comes just now.
            if (taken is null && offset == 0x14 && (value & 1) != 0)
                taken = lane.TrySubmitFlush(0);
            return false;
        };
        rig.Binding.Reset();
        Assert.False(taken);
        Assert.Equal(Errno.Ok, lane.Flush());
    });

    [Fact]
    public void T11_removal_ends_requests_with_ENODEV_and_waits_until_maps_are_gone() => Rig.With(
        rig =>
        {
            Lane lane = rig.Lane();
            (DmaBufToken token, TestExporter memory) = rig.Register(1 << 20);
            rig.Model.Stall = true;
            Fill(lane, token);
            lane.Commit();
            rig.Binding.Dispose();
            AssertEnded(lane, Requests, Errno.ENODEV);
            Assert.Equal((1, 1), (memory.Maps, memory.Unmaps));
            Assert.True(rig.Device.IsRemoved);

            // Later ones end with it too, whatever they are backed by, and there is no new map, token or queue.
            Assert.Equal(Errno.ENODEV, lane.Flush());
            Assert.Equal(Errno.ENODEV, token.GetMap(lane.Context, out _, TestContext.Current.CancellationToken));
            Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => rig.Register(4096)).Errno);
            Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => new Lane(rig.Device, 4)).Errno);
            Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(rig.Binding.Reset).Errno);
        },
        options: new NvmePciOptions { TimeoutMilliseconds = 50 });

    [Fact]
    public void Removal_of_an_idle_controller_shuts_it_down_so_that_its_cache_is_saved()
    {
        uint? last = null;
        Rig.With(rig =>
        {
            Lane lane = rig.Lane();
            Assert.Equal(Errno.Ok, lane.Flush());
            rig.Function.OnWrite = (offset, value) =>
            {
                if (offset == 0x14 && (value >> 14 & 3) == 1)
                    last = value;
                return false;
            };
            rig.Binding.Dispose();
            Assert.Null(rig.Binding.Failure);
            rig.Binding.Dispose();
        });
        Assert.NotNull(last);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void T11_surprise_removal_is_noticed_by_polling_and_ends_requests_with_ENODEV(bool ownThread) => Rig.With(
        rig =>
        {
            Lane lane = rig.Lane();
            (DmaBufToken token, TestExporter memory) = rig.Register(1 << 20);
            rig.Model.Stall = true;
            Fill(lane, token);
            lane.Commit();
            rig.Model.Kill();
            lane.Finish();
            AssertEnded(lane, Requests, Errno.ENODEV);
            Assert.True(rig.Device.IsRemoved);
            Assert.Equal(Errno.ENODEV, lane.Flush());
            Assert.Equal(Errno.ENODEV, token.GetMap(lane.Context, out _, TestContext.Current.CancellationToken));
            Assert.Equal(1, memory.Maps);
            rig.Binding.Dispose();
            Assert.Equal(Errno.ENODEV, rig.Binding.Failure?.Errno);
        },
        Rig.Small with { OwnThread = ownThread });

    [Fact]
    public void N8_a_command_that_is_never_answered_makes_a_worker_reset_the_controller() => Rig.With(
        rig =>
        {
            Lane lane = rig.Lane();
            (DmaBufToken token, _) = rig.Register(1 << 20);

            // The doorbell gets lost: the controller never learns of the commands.
            rig.Function.OnWrite = static (offset, _) => offset == 0x1008;
            Fill(lane, token);
            lane.Finish();
            AssertEnded(lane, Requests, Errno.ECANCELED);
            rig.Function.OnWrite = null;
            Settle(rig, resets: 1);
            Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 0, 4096, 0));
            Assert.Null(rig.Binding.Failure);
        },
        options: new NvmePciOptions { TimeoutMilliseconds = 200 });

    [Fact]
    public void N8_a_controller_that_reports_a_fatal_error_is_reset() => Rig.With(rig =>
    {
        Lane lane = rig.Lane();
        (DmaBufToken token, _) = rig.Register(1 << 20);
        rig.Function.OnWrite = static (offset, _) => offset == 0x1008;
        Fill(lane, token);
        rig.Function.Fatal = true;
        lane.Finish();
        AssertEnded(lane, Requests, Errno.ECANCELED);
        rig.Function.OnWrite = null;
        Settle(rig, resets: 1);
        Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 0, 4096, 0));
    });

    [Theory]
    [InlineData(5)] // not in flight
    [InlineData(700)] // no tag of the queue
    [InlineData(65535)]
    public void N8_an_answer_to_a_command_that_was_not_given_ends_no_request_and_resets_the_controller(int identifier) => Rig.With(rig =>
    {
        Lane lane = rig.Lane(depth: 32);
        (DmaBufToken token, _) = rig.Register(1 << 20);
        rig.Function.OnWrite = static (offset, _) => offset is 0x1008 or 0x100C;
        Assert.True(lane.TrySubmit(token, BioOperation.Read, 0, 4096, 0, 0));
        Assert.True(rig.Function.TryMemoryOf("nvme0 queue 1", out MemoryRange memory));

        // 33 submission entries of 64 bytes take one page; the completion entries follow. Success, phase 1.
        System.Buffers.Binary.BinaryPrimitives.WriteInt32LittleEndian(memory.Region.Span(4096 + 12, 4), identifier | (1 << 16));
        lane.Finish();
        Assert.Equal((Errno.ECANCELED, 1), (lane.StatusOf(0), lane.EndsOf(0)));
        rig.Function.OnWrite = null;
        Settle(rig, resets: 1);
        Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 0, 4096, 0));
    });

    [Fact]
    public void A_queue_that_cannot_be_made_leaves_nothing_behind_and_the_others_go_on() => Rig.With(
        rig =>
        {
            Lane lane = rig.Lane();
            (DmaBufToken token, _) = rig.Register(1 << 20);
            long live = rig.Iommu.LiveMappings;

            // The second admin command from now on, the creation of the submission queue, is never announced.
            int announced = 0;
            rig.Function.OnWrite = (offset, _) => offset == 0x1000 && ++announced == 2;
            Assert.Equal(Errno.ETIMEDOUT, Assert.Throws<DmaBufIoException>(() => new Lane(rig.Device, 4)).Errno);
            Assert.Equal(live, rig.Iommu.LiveMappings);
            Assert.Equal(1, rig.Binding.Resets);
            Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 0, 4096, 0));
            using var next = new Lane(rig.Device, 4);
            Assert.Equal(Errno.Ok, next.Flush());
        },
        options: new NvmePciOptions { TimeoutMilliseconds = 100 });

    [Fact]
    public void N8_a_controller_that_does_not_come_back_from_a_reset_is_given_up() => Rig.With(rig =>
    {
        Lane lane = rig.Lane();
        (DmaBufToken token, _) = rig.Register(1 << 20);
        Fill(lane, token);
        lane.Commit();
        rig.Function.OnRead = static (offset, value) => offset switch
        {
            0x00 => value & 0x00FF_FFFF, // TO = 0: half a second
            0x1C => value & ~1u, // never ready
            _ => value,
        };
        Assert.Equal(Errno.ETIMEDOUT, Assert.Throws<DmaBufIoException>(rig.Binding.Reset).Errno);
        AssertEnded(lane, Requests, Errno.ECANCELED);
        Assert.True(rig.Device.IsRemoved);
        Assert.Equal(Errno.ENODEV, lane.Flush());
        Assert.Equal(Errno.ETIMEDOUT, rig.Binding.Failure?.Errno);
    });

    [Fact]
    public void T15_a_reset_from_within_a_batch_is_refused_and_changes_nothing() => Rig.With(rig =>
    {
        Lane lane = rig.Lane();
        lane.Context.Enter();
        var e = Assert.Throws<DmaBufIoException>(rig.Binding.Reset);
        lane.Context.Leave();
        Assert.Equal((Errno.EDEADLK, "T15"), (e.Errno, e.Rule));
        Assert.Equal(Errno.Ok, lane.Flush());
    });

    [Fact]
    public void F7_an_invalidation_with_requests_in_flight_on_an_idle_owners_queue_drains() => Rig.With(
        rig =>
        {
            Lane lane = rig.Lane();
            (DmaBufToken token, TestExporter memory) = rig.Register(1 << 20);
            for (int round = 0; round < 20; round++)
            {
                lane.Forget();
                Fill(lane, token);
                lane.Commit();
                CancellationToken cancel = TestContext.Current.CancellationToken;
                using (DmaBufs.ReservationGuard guard = token.Buffer.Reservation.Lock(cancellationToken: cancel))
                {
                    DmaBufs.HeldReservation held = guard.Held;
                    Assert.Equal(1, token.Buffer.InvalidateMappings(held).KilledMaps);
                }

                Assert.Equal(0, lane.Pending);
                AssertEnded(lane, Requests, Errno.Ok);
            }

            Assert.Equal(20, memory.Maps);
        },
        Rig.Small with { OwnThread = true });

    private static void Fill(Lane lane, DmaBufToken token)
    {
        for (int i = 0; i < Requests; i++)
            Assert.True(lane.TrySubmit(token, i % 2 == 0 ? BioOperation.Read : BioOperation.Write, i * 12288, 12288, i * 24, i));
    }

    private static void AssertEnded(Lane lane, int count, Errno status)
    {
        for (int i = 0; i < count; i++)
            Assert.Equal((i, status, 1), (i, lane.StatusOf(i), lane.EndsOf(i)));
    }

    // Requests end before the worker has finished the reset.
    private static void Settle(Rig rig, int resets)
    {
        bool settled = SpinWait.SpinUntil(() => rig.Binding.Resets == resets, TimeSpan.FromSeconds(30));
        Assert.True(settled, $"{rig.Binding.Resets} resets, {rig.Binding.Failure?.Message}");
    }
}
