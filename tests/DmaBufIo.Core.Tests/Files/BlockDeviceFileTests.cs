using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Tests.Block;
using DmaBufIo.Tests.Iov;

namespace DmaBufIo.Tests.Files;

public sealed class BlockDeviceFileTests
{
    private const long Capacity = 1 << 20;

    [Theory]
    [InlineData(Capacity - 4096, 4096, 4096)]
    [InlineData(Capacity - 512, 4096, 512)]
    [InlineData(Capacity, 4096, 0)]
    [InlineData(Capacity + 4096, 4096, 0)]
    [InlineData(long.MaxValue & -512, 4096, 0)]
    public void A_read_that_crosses_the_devices_end_is_short_and_one_beyond_it_reads_nothing(long at, long length, long moved)
    {
        using var bench = new FileBench(new QueueLimits(512), Capacity);
        (Errno status, _) = Go(bench, read: true, at, length);
        Assert.Equal((Errno.Ok, moved), (status, bench.Device.Seen.Sum(static s => s.Bio.Size)));
    }

    [Theory]
    [InlineData(Capacity - 512, 4096, Errno.Ok, 512)]
    [InlineData(Capacity, 4096, Errno.ENOSPC, 0)]
    [InlineData(Capacity + 4096, 4096, Errno.ENOSPC, 0)]
    [InlineData(long.MaxValue & -512, 4096, Errno.ENOSPC, 0)]
    public void A_write_that_crosses_the_devices_end_is_short_and_one_beyond_it_finds_no_space(
        long at, long length, Errno expected, long moved)
    {
        using var bench = new FileBench(new QueueLimits(512), Capacity);
        (Errno status, _) = Go(bench, read: false, at, length);
        Assert.Equal((expected, moved), (status, bench.Device.Seen.Sum(static s => s.Bio.Size)));
    }

    [Fact]
    public void Reads_become_reads_and_writes_become_writes()
    {
        using var bench = new FileBench(new QueueLimits(512), Capacity);
        Go(bench, read: true, 0, 512);
        Go(bench, read: false, 0, 512);
        IoRequest flush = bench.Request(0);
        Assert.Equal(Errno.Ok, bench.Queue.Fsync(ref flush));
        Assert.Equal([BioOperation.Read, BioOperation.Write, BioOperation.Flush], bench.Device.Seen.Select(static s => s.Bio.Operation));
        Assert.Equal(BioBacking.None, bench.Device.Seen[2].Bio.Backing);
    }

    [Fact]
    public void A_file_opened_for_reading_refuses_writes_with_EBADF_and_a_write_protected_device_with_EROFS()
    {
        using var bench = new FileBench(new QueueLimits(512), Capacity, flags: OpenFlags.Direct | OpenFlags.ReadOnly);
        Assert.Equal(Errno.EBADF, Go(bench, read: false, 0, 512).Status);
        Assert.Equal(Errno.Ok, Go(bench, read: true, 0, 512).Status);
        using var other = new FileBench(new QueueLimits(512), Capacity);
        other.Device.WriteProtected = true;
        Assert.Equal(Errno.EROFS, Go(other, read: false, 0, 512).Status);
        Assert.Equal(Errno.Ok, Go(other, read: true, 0, 512).Status);
    }

    [Theory]
    [InlineData(IovKind.UserBuffer)]
    [InlineData(IovKind.Iovec)]
    [InlineData(IovKind.KernelVec)]
    [InlineData(IovKind.Discard)]
    public void Memory_that_no_device_can_reach_is_refused_with_EOPNOTSUPP(IovKind kind)
    {
        using var bench = new FileBench(new QueueLimits(512), Capacity);
        using var region = DmaBufIo.Memory.MemoryRegion.Allocate("none", 4096);
        IovIter iter = Iterators.Make(kind, region, 512);
        IoRequest request = bench.Request(0);
        Assert.Equal(Errno.EOPNOTSUPP, bench.Queue.ReadIter(ref request, ref iter));
    }

    [Fact]
    public void T16_without_room_for_any_of_it_the_answer_is_EAGAIN_and_nothing_was_taken()
    {
        using var bench = new FileBench(new QueueLimits(512) { MaxBytes = 512 }, Capacity, bios: 4);
        bench.Device.Room = 0;
        (Errno status, IoRequest request) = Go(bench, read: true, 0, 2048);
        Assert.Equal((Errno.EAGAIN, 0, 4), (status, request.Pending, bench.Bios.Free));
        bench.Device.Room = 100;
        for (int i = 0; i < 4; i++)
            Assert.True(bench.Bios.TryAllocateFlush(out _));
        IoRequest flush = bench.Request(0);
        Assert.Equal(Errno.EAGAIN, bench.Queue.Fsync(ref flush));
        Assert.Equal(Errno.EAGAIN, Go(bench, read: true, 0, 512).Status);
        for (int i = 0; i < 4; i++)
            bench.Bios.Release(new BioHandle(i));
    }

    [Theory]
    [InlineData(8, 3)]
    [InlineData(3, 8)]
    [InlineData(5, 0)]
    public void T16_a_device_that_promises_more_room_than_it_has_leaves_the_rest_to_come_again_with_nothing_begun(int promised, int room)
    {
        using var bench = new FileBench(new QueueLimits(512), Capacity);
        bench.Device.Promises = promised;
        bench.Device.Room = room;
        var map = new StillMap(Capacity);
        int owner = bench.Request(0).BioOwner;
        int[] tags = [4, 2, 0, 1, 3, 5, 7, 6];
        var requests = new IoRequest[tags.Length];
        for (int i = 0; i < requests.Length; i++)
            requests[i] = new IoRequest { FileOffset = 512 * i, Tag = i, BioOwner = owner, Iter = IovIter.ForMap(map, 512 * i, 512, DmaDirection.FromDevice) };
        int issued = 0;
        for (int round = 0; issued < tags.Length && round < 10; round++)
        {
            int count = bench.Queue.IssueRanges(isWrite: false, map, requests, tags.AsSpan(issued));
            Assert.InRange(count, 0, room);
            Assert.All(tags[issued..(issued + count)], t => Assert.Equal(1, requests[t].Pending));
            Assert.All(tags[(issued + count)..], t => Assert.Equal(0, requests[t].Pending));
            Assert.Equal(bench.Bios.Capacity - count, bench.Bios.Free);
            issued += count;
            Assert.Equal(count, bench.Complete());
        }

        Assert.Equal(room == 0 ? [] : tags.Select(static t => 512L * t), bench.Device.Seen.Select(static s => s.Bio.Offset));
    }

    [Theory]
    [InlineData(2, 100)]
    [InlineData(100, 3)]
    public void T16_with_room_for_a_part_the_iterator_stands_where_the_rest_begins(int bios, int room)
    {
        using var bench = new FileBench(new QueueLimits(512) { MaxBytes = 512 }, Capacity, bios: bios);
        bench.Device.Room = room;
        int part = Math.Min(bios, room);
        IovIter iter = IovIter.ForMap(new StillMap(Capacity), 4096, 5 * 512, DmaDirection.FromDevice);
        IoRequest request = bench.Request(8192);
        Assert.Equal(Errno.Ok, bench.Queue.ReadIter(ref request, ref iter));
        Assert.Equal((part, 4096L + (part * 512), (5L - part) * 512), (request.Pending, iter.Offset, iter.Count));
        while (iter.Count > 0)
        {
            Assert.InRange(bench.Complete(), 1, part);
            Assert.Equal(Errno.Ok, bench.Queue.ReadIter(ref request, ref iter));
        }

        Assert.Equal([16L, 17, 18, 19, 20], bench.Device.Seen.Select(static s => s.Bio.Sector));
        Assert.Equal([4096L, 4608, 5120, 5632, 6144], bench.Device.Seen.Select(static s => s.Bio.Offset));
    }

    [Fact]
    public void A_file_is_counted_closed_with_its_last_reference_and_cannot_be_taken_after_that()
    {
        var file = new BlockDeviceFile(new LoggedDevice(new QueueLimits(512)));
        file.Get();
        file.Put();
        Assert.False(file.IsClosed);
        file.Put();
        Assert.True(file.IsClosed);
        Assert.Equal(Errno.EBADF, Assert.Throws<DmaBufIoException>(file.Get).Errno);
        Assert.Throws<InvalidOperationException>(file.Put);
    }

    private static (Errno Status, IoRequest Request) Go(FileBench bench, bool read, long at, long length)
    {
        IovIter iter = IovIter.ForMap(new StillMap(Capacity), 0, length, read ? DmaDirection.FromDevice : DmaDirection.ToDevice);
        IoRequest request = bench.Request(at);
        Errno status = read ? bench.Queue.ReadIter(ref request, ref iter) : bench.Queue.WriteIter(ref request, ref iter);
        return (status, request);
    }
}
