using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Protocol;
using DmaBufIo.Importers.NvmePci.Tests.Harness;
using DmaBufIo.Pci.Model;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.NvmePci.Tests;

public sealed class QueueTests
{
    private const long FirstTailDoorbell = 0x1008;
    private const long FirstHeadDoorbell = 0x100C;

    [Fact]
    public void T16_a_full_queue_takes_fewer_bios_and_goes_on_when_there_is_room() => Rig.With(rig =>
    {
        Lane lane = rig.Lane(depth: 4);
        (DmaBufToken token, _) = rig.Register(1 << 20);
        for (int i = 0; i < 4; i++)
            Assert.True(lane.TrySubmit(token, BioOperation.Write, i * 4096, 4096, i * 8, i));
        Assert.False(lane.TrySubmit(token, BioOperation.Write, 0, 4096, 0, 4));
        Assert.Equal(4, lane.Pending);
        lane.Commit();
        Assert.Equal(1, lane.Poll(max: 1));
        Assert.True(lane.TrySubmit(token, BioOperation.Write, 0, 4096, 0, 4));
        Assert.False(lane.TrySubmit(token, BioOperation.Write, 0, 4096, 0, 5));
        lane.Finish();
        for (int i = 0; i < 5; i++)
            Assert.Equal((Errno.Ok, 1), (lane.StatusOf(i), lane.EndsOf(i)));
    });

    [Fact]
    public void One_batch_costs_one_doorbell_and_one_poll_costs_one() => Rig.With(rig =>
    {
        Lane lane = rig.Lane(depth: 32);
        (DmaBufToken token, _) = rig.Register(1 << 20);
        for (int i = 0; i < 20; i++)
            Assert.True(lane.TrySubmit(token, BioOperation.Read, i * 4096, 4096, i * 8, i));
        Assert.Equal(0, rig.Function.Rung(FirstTailDoorbell));
        lane.Commit();
        lane.Commit();
        Assert.Equal(1, rig.Function.Rung(FirstTailDoorbell));
        Assert.Equal(20, lane.Poll());
        Assert.Equal(0, lane.Poll());
        Assert.Equal(1, rig.Function.Rung(FirstHeadDoorbell));
    });

    [Fact]
    public void Queues_wrap_many_times_over_and_phases_stay_right() => Rig.With(
        rig =>
        {
            Lane lane = rig.Lane(depth: 5);
            (DmaBufToken token, _) = rig.Register(1 << 20);
            for (int round = 0; round < 200; round++)
            {
                lane.Forget();
                int count = 1 + round % 5;
                for (int i = 0; i < count; i++)
                    Assert.True(lane.TrySubmit(token, BioOperation.Read, i * 4096, 4096, i * 8, i));
                lane.Finish();
                for (int i = 0; i < count; i++)
                    Assert.Equal((Errno.Ok, 1), (lane.StatusOf(i), lane.EndsOf(i)));
            }
        },
        Rig.Small with { OwnThread = true });

    [Fact]
    public void The_depth_is_what_the_controller_has_room_for() => Rig.With(
        rig =>
        {
            Lane lane = rig.Lane(depth: 100);
            for (int i = 0; i < 15; i++)
                Assert.True(lane.TrySubmitFlush(i));
            Assert.False(lane.TrySubmitFlush(15));
            lane.Finish();
        },
        Rig.Small with { MaxQueueEntries = 16 });

    [Fact]
    public void A_controller_without_a_free_queue_answers_EBUSY_and_a_closed_queue_is_free_again() => Rig.With(
        rig =>
        {
            Lane first = rig.Lane();
            var second = new Lane(rig.Device, 8);
            var e = Assert.Throws<DmaBufIoException>(() => new Lane(rig.Device, 8));
            Assert.Equal(Errno.EBUSY, e.Errno);
            Assert.Contains("2 queues", e.Message, StringComparison.Ordinal);
            second.Dispose();
            using var third = new Lane(rig.Device, 8);
            Assert.Equal(Errno.Ok, third.Flush());
            Assert.Equal(Errno.Ok, first.Flush());
        },
        Rig.Small with { MaxQueues = 2 });

    [Fact]
    public void A_queue_with_requests_in_flight_is_not_disposed() => Rig.With(rig =>
    {
        Lane lane = rig.Lane();
        Assert.True(lane.TrySubmitFlush(0));
        Assert.Throws<InvalidOperationException>(lane.Queue.Dispose);
        lane.Finish();
        Assert.Equal(Errno.Ok, lane.StatusOf(0));
    });

    [Fact]
    public void N6_a_bio_that_breaks_a_limit_ends_at_once_and_gives_everything_back() => Rig.With(rig =>
    {
        Lane lane = rig.Lane(depth: 2);
        (DmaBufToken token, _) = rig.Register(1 << 20);
        int max = rig.Device.Limits.MaxBytes;
        (long Offset, long Size, long Sector, Errno Errno)[] wrong =
        [
            (2, 4096, 0, Errno.EINVAL), // not dword aligned
            (0, 100, 0, Errno.EINVAL), // no whole block
            (0, 0, 0, Errno.EINVAL),
            (0, max + 512, 0, Errno.EINVAL),
            (0, (1L << 32) + 4096, 0, Errno.EINVAL), // B4: does not wrap to 4096
            (0, 4096, -8, Errno.EINVAL),
            (-4096, 4096, 0, Errno.EINVAL),
            ((1 << 20) - 512, 4096, 0, Errno.EFAULT), // leaves the buffer
            (long.MaxValue - 3, 4096, 0, Errno.EFAULT),
        ];
        foreach ((long offset, long size, long sector, Errno errno) in wrong)
            Assert.Equal(errno, lane.Do(token, BioOperation.Read, offset, size, sector));

        // More of them than there are tags, and not one command among them.
        Assert.Equal(0, rig.Function.Rung(FirstTailDoorbell));
        Assert.Equal(lane.Bios.Capacity, lane.Bios.Free);
        Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 0, max, 0));
        Assert.Equal(1, rig.Function.Rung(FirstTailDoorbell));
    });

    [Fact]
    public void B3_a_sector_inside_a_logical_block_is_refused() => Rig.With(
        rig =>
        {
            Lane lane = rig.Lane();
            (DmaBufToken token, _) = rig.Register(1 << 20);
            Assert.Equal(Errno.EINVAL, lane.Do(token, BioOperation.Read, 0, 4096, 1));
            Assert.Equal(Errno.EINVAL, lane.Do(token, BioOperation.Read, 0, 512, 0));
            Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 0, 4096, 8));
        },
        Rig.Small with { LbaSize = 4096 });

    [Fact]
    public void T1_a_transfer_in_a_direction_that_was_not_registered_is_refused() => Rig.With(rig =>
    {
        Lane lane = rig.Lane();
        (DmaBufToken toDevice, _) = rig.Register(1 << 20, DmaDirection.ToDevice);
        (DmaBufToken fromDevice, _) = rig.Register(1 << 20, DmaDirection.FromDevice);
        Assert.Equal(Errno.EACCES, lane.Do(toDevice, BioOperation.Read, 0, 4096, 0));
        Assert.Equal(Errno.EACCES, lane.Do(fromDevice, BioOperation.Write, 0, 4096, 0));
        Assert.Equal(Errno.Ok, lane.Do(toDevice, BioOperation.Write, 0, 4096, 0));
        Assert.Equal(Errno.Ok, lane.Do(fromDevice, BioOperation.Read, 0, 4096, 0));
    });

    [Fact]
    public void T13_a_map_of_another_controller_is_refused() => Rig.With(rig => Rig.With(
        other =>
        {
            Lane lane = rig.Lane();
            (DmaBufToken token, _) = other.Register(1 << 20);
            Assert.Equal(Errno.EBADF, lane.Do(token, BioOperation.Read, 0, 4096, 0));
        },
        Rig.Small with { Name = "other" }));

    [Fact]
    public void A_write_to_a_write_protected_namespace_answers_EROFS_and_reads_and_flushes_go_on()
    {
        string path = Path.GetTempFileName();
        File.WriteAllBytes(path, new byte[1 << 20]);
        try
        {
            Rig.With(
                static rig =>
                {
                    Lane lane = rig.Lane();
                    (DmaBufToken token, _) = rig.Register(1 << 20);
                    Assert.Equal(Errno.EROFS, lane.Do(token, BioOperation.Write, 0, 4096, 0));
                    Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 0, 4096, 0));
                    Assert.Equal(Errno.Ok, lane.Flush());
                    Assert.Equal(2, rig.Function.Rung(FirstTailDoorbell));
                },
                new NvmeModelOptions { Path = path, ReadOnly = true, OwnThread = false });
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void A_request_beyond_the_end_answers_ENOSPC() => Rig.With(rig =>
    {
        Lane lane = rig.Lane();
        (DmaBufToken token, _) = rig.Register(1 << 20);
        long end = rig.Device.Capacity / 512;
        Assert.Equal(Errno.ENOSPC, lane.Do(token, BioOperation.Write, 0, 4096, end - 7));
        Assert.Equal(Errno.ENOSPC, lane.Do(token, BioOperation.Read, 0, 512, end));
        Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Write, 0, 4096, end - 8));
    });

    [Fact]
    public void N9_a_joint_inside_a_controller_page_is_refused_and_nothing_stays_mapped() => Rig.With(rig =>
    {
        Lane lane = rig.Lane();
        (DmaBufToken token, TestExporter memory) = rig.Register(
            [8192], DmaDirection.Bidirectional, static whole => Cut(whole[0], 512, 7680));
        Assert.Equal(Errno.EOPNOTSUPP, token.GetMap(lane.Context, out _, TestContext.Current.CancellationToken));
        Assert.Equal("N9", token.LastMapError?.Rule);
        Assert.Contains("4096", token.LastMapError!.Message, StringComparison.Ordinal);
        Assert.Equal((1, 1), (memory.Maps, memory.Unmaps));
    });

    [Theory]
    [InlineData(4096, 4096, 8192)]
    [InlineData(12288, 4096)]
    public void N1_ranges_of_any_whole_number_of_pages_make_one_map_and_the_shortest_run_is_told(params int[] lengths) => Rig.With(rig =>
    {
        Lane lane = rig.Lane();
        (DmaBufToken token, TestExporter memory) = rig.Register([16384], DmaDirection.Bidirectional, whole => Cut(whole[0], lengths));
        DmaMap map = lane.EnterWithMap(token);

        // Cut, but contiguous in device addresses: one run.
        Assert.Equal((16384L, 16384L), (map.Length, map.SmallestSegment));
        DmaBufToken.Drop(map, lane.Context);
        lane.Context.Leave();
        byte[] data = new byte[16384];
        new Random(5).NextBytes(data);
        memory.Write(0, data);
        Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Write, 0, 16384, 0));
        memory.Write(0, new byte[16384]);
        Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 0, 16384, 0));
        Assert.Equal(data, memory.Read(0, 16384));
    });

    [Fact]
    public void B3_the_smallest_segment_of_a_fragmented_buffer_is_its_shortest_run() => Rig.With(rig =>
    {
        Lane lane = rig.Lane();

        // Runs of 16, 28 and 20 KiB: the last is made of two ranges that are contiguous, so its 8 and 12 KiB do not count.
        (DmaBufToken token, TestExporter memory) = rig.Register(
            [65536],
            DmaDirection.Bidirectional,
            static whole =>
            [
                Part(whole[0], 48 << 10, 16 << 10),
                Part(whole[0], 20 << 10, 28 << 10),
                Part(whole[0], 0, 12 << 10),
                Part(whole[0], 12 << 10, 8 << 10),
            ]);
        DmaMap map = lane.EnterWithMap(token);
        DmaBufToken.Drop(map, lane.Context);
        lane.Context.Leave();
        Assert.Equal(16 << 10, map.SmallestSegment);

        // The order of the buffer is that of the table, not of the addresses.
        byte[] data = new byte[65536];
        new Random(6).NextBytes(data);
        memory.Write(0, data);
        Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Write, 0, 65536, 0));
        memory.Write(0, new byte[65536]);
        Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 48 << 10, 16 << 10, 96));
        Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 0, 48 << 10, 0));
        Assert.Equal(data, memory.Read(0, 65536));
    });

    [Fact]
    public void An_exporter_whose_table_does_not_cover_the_buffer_is_refused() => Rig.With(rig =>
    {
        Lane lane = rig.Lane();
        (DmaBufToken token, _) = rig.Register([8192], DmaDirection.Bidirectional, static whole => [Part(whole[0], 0, 4096)]);
        Assert.Equal(Errno.EIO, token.GetMap(lane.Context, out _, TestContext.Current.CancellationToken));
    });

    [Theory]
    [InlineData(0x000, Errno.Ok)]
    [InlineData(0x002, Errno.EINVAL)]
    [InlineData(0x004, Errno.EIO)]
    [InlineData(0x007, Errno.ECANCELED)]
    [InlineData(0x013, Errno.EINVAL)]
    [InlineData(0x020, Errno.EROFS)]
    [InlineData(0x080, Errno.ENOSPC)]
    [InlineData(0x081, Errno.ENOSPC)]
    [InlineData(0x182, Errno.EROFS)]
    [InlineData(0x281, Errno.EIO)]
    [InlineData(0x7FF, Errno.EIO)]
    public void A_status_code_means_one_errno_whatever_the_bits_around_it_say(int code, Errno errno)
    {
        Assert.Equal(errno, NvmeStatus.ToErrno(code));

        // Do Not Retry, More and the retry delay are no part of the code; nor are phase and identifier.
        Assert.Equal(code, NvmeStatus.CodeOf(((uint)code << 17) | 0xF001_FFFF));
    }

    private static DeviceRange[] Cut(DeviceRange whole, params int[] lengths)
    {
        var parts = new List<DeviceRange>();
        long at = 0;
        foreach (int length in lengths)
        {
            parts.Add(Part(whole, at, length));
            at += length;
        }

        return [.. parts];
    }

    private static DeviceRange Part(DeviceRange whole, long offset, long length) => new(
        whole.Space,
        whole.Address + (ulong)offset,
        whole.Memory with { Offset = whole.Memory.Offset + offset, Length = length },
        whole.Direction,
        whole.Purpose,
        whole.Generation);
}
