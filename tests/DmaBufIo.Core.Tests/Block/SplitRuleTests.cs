using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using DmaBufIo.Tests.Iov;

namespace DmaBufIo.Tests.Block;

public sealed class SplitRuleTests
{
    [Theory]
    [InlineData(0, 512, Errno.Ok)]
    [InlineData(4, 512, Errno.Ok)]
    [InlineData(2, 512, Errno.EINVAL)]
    [InlineData(1, 512, Errno.EINVAL)]
    [InlineData(0, 511, Errno.EINVAL)]
    [InlineData(0, 513, Errno.EINVAL)]
    [InlineData(0, 4, Errno.EINVAL)]
    public void B3_the_offset_is_checked_against_the_DMA_alignment_and_the_size_against_the_length_alignment(
        long offset, long size, Errno status)
    {
        using var bench = new FileBench(new QueueLimits(512));
        Assert.Equal(status, Read(bench, offset, size, 0));
        Assert.Equal(status, ReadVector(bench, new BufferRange(0, 512), new BufferRange(offset, size)));
        Assert.Equal(status == Errno.Ok ? 3 : 0, bench.Device.Seen.Count);
    }

    [Fact]
    public void B3_a_vector_is_checked_range_by_range_and_not_only_in_sum()
    {
        using var bench = new FileBench(new QueueLimits(512));
        Assert.Equal(Errno.EINVAL, ReadVector(bench, new BufferRange(0, 256), new BufferRange(4096, 256)));
        Assert.Empty(bench.Device.Seen);
    }

    [Theory]
    [InlineData(512, 256)]
    [InlineData(4096, 512)]
    [InlineData(512, -512)]
    public void B3_the_file_offset_is_a_multiple_of_the_block_and_not_negative(int block, long fileOffset)
    {
        using var bench = new FileBench(new QueueLimits(block));
        Assert.Equal(Errno.EINVAL, Read(bench, 0, block, fileOffset));
        IovIter vector = IovIter.ForMapRanges(new StillMap(1 << 20), new BufferRange[] { new(0, block) }, DmaDirection.FromDevice);
        IoRequest request = bench.Request(fileOffset);
        Assert.Equal(Errno.EINVAL, bench.Queue.ReadIter(ref request, ref vector));
        Assert.Empty(bench.Device.Seen);
    }

    [Fact]
    public void B3_a_stricter_DMA_alignment_of_the_device_is_obeyed()
    {
        using var bench = new FileBench(new QueueLimits(512) { DmaAlignment = 512 });
        Assert.Equal(Errno.EINVAL, Read(bench, 256, 512, 0));
        Assert.Equal(Errno.Ok, Read(bench, 512, 512, 0));
    }

    [Fact]
    public void B3_the_largest_bio_splits_and_the_pieces_follow_one_another_in_memory_and_on_the_device()
    {
        using var bench = new FileBench(new QueueLimits(512) { MaxBytes = 2048 });
        Assert.Equal(Errno.Ok, Read(bench, 4, 5120, 1024));
        Assert.Equal(
            [(4L, 2048L, 2L), (2052, 2048, 6), (4100, 1024, 10)],
            bench.Device.Seen.Select(static s => (s.Bio.Offset, s.Bio.Size, s.Bio.Sector)));
        Assert.All(bench.Device.Seen, static s => Assert.Equal(7, s.Bio.Cookie));
    }

    [Theory]
    [InlineData(2, 4096, 4096)]
    [InlineData(5, 4096, 16384)]
    [InlineData(5, 1000, 3584)]
    [InlineData(2, 100, 512)]
    [InlineData(129, 1 << 30, 131072)]
    [InlineData(int.MaxValue, 4096, 131072)]
    [InlineData(int.MaxValue, long.MaxValue, 131072)]
    public void B3_the_smallest_segment_of_a_map_bounds_what_goes_to_the_device_at_once(int segments, long smallest, int bytes)
    {
        QueueLimits limits = new QueueLimits(512) with { MaxBytes = 131072, MaxSegments = segments };
        Assert.Equal(bytes, limits.MaxBytesFor(smallest));
    }

    [Theory]
    [InlineData(512, 512)]
    [InlineData(4096, 4096)]
    public void B3_where_one_segment_is_all_a_bio_is_as_long_as_memory_is_aligned(int alignment, int bytes)
    {
        QueueLimits limits = new QueueLimits(512) with { MaxSegments = 1, DmaAlignment = alignment };
        Assert.Equal(bytes, limits.MaxBytesFor(8192));
    }

    [Fact]
    public void B3_no_bio_touches_more_segments_than_the_device_takes_however_the_buffer_is_cut()
    {
        for (int seed = 0; seed < 300; seed++)
        {
            var random = new Random(seed);
            long smallest = 4096L << random.Next(3);
            int maxSegments = random.Next(1, 9);

            // Who takes one segment alone asks for an alignment of a block at least, and segments are whole pages.
            long[] borders = Borders(random, smallest, unit: maxSegments == 1 ? 4096 : 1);
            int alignment = maxSegments == 1 ? 512 << random.Next(4) : 4;
            var limits = new QueueLimits(512) { MaxSegments = maxSegments, MaxBytes = 512 * random.Next(1, 400), DmaAlignment = alignment };
            using var bench = new FileBench(limits, bios: 8192);
            long offset = random.NextInt64(borders[^1] / 2) & -alignment;
            long size = random.NextInt64(512, borders[^1] - offset) & -512;
            if (size == 0)
                continue;
            Assert.Equal(Errno.Ok, Read(bench, offset, size, 0, new StillMap(borders[^1], smallest)));
            Assert.Equal(size, bench.Device.Seen.Sum(static s => s.Bio.Size));
            foreach (SeenBio seen in bench.Device.Seen)
            {
                int touched = Segments(borders, seen.Bio.Offset, seen.Bio.Size);
                Assert.True(
                    touched <= maxSegments,
                    $"seed {seed}: a bio at {seen.Bio.Offset}+{seen.Bio.Size} touches {touched} segments of {maxSegments}");
            }
        }
    }

    [Theory]
    [InlineData(1L << 32)]
    [InlineData((1L << 32) + 512)]
    [InlineData((1L << 33) + 4096)]
    [InlineData(1L << 31)]
    public void B4_a_length_that_overflows_32_bits_does_not_wrap(long length)
    {
        using var bench = new FileBench(new QueueLimits(512));
        Assert.Equal(Errno.Ok, Read(bench, 4096, length, 512, new StillMap(1L << 40, 1L << 40)));
        long at = 0;
        foreach (SeenBio seen in bench.Device.Seen)
        {
            Assert.Equal((4096 + at, 1 + (at >> 9)), (seen.Bio.Offset, seen.Bio.Sector));
            Assert.InRange(seen.Bio.Size, 1, int.MaxValue);
            at += seen.Bio.Size;
        }

        Assert.Equal(length, at);
    }

    [Fact]
    public void B4_neither_do_the_sum_of_a_vector_nor_the_places_of_its_ranges()
    {
        using var bench = new FileBench(new QueueLimits(512) { MaxBytes = 1 << 30 });
        BufferRange[] ranges = [new(1L << 34, 3L << 30), new(512, 3L << 30)];
        Assert.Equal(Errno.Ok, ReadVector(bench, ranges));
        Assert.Equal(6L << 30, bench.Device.Seen.Sum(static s => s.Bio.Size));
        Assert.Equal(
            [1L << 34, (1L << 34) + (1 << 30), (1L << 34) + (2L << 30), 512, 512 + (1 << 30), 512 + (2L << 30)],
            bench.Device.Seen.Select(static s => s.Bio.Offset));
    }

    [Fact]
    public void B3_B4_limits_of_stacked_devices_are_for_each_the_stricter_of_the_two_and_keep_whole_blocks()
    {
        QueueLimits a = new QueueLimits(512) with { DmaAlignment = 4, MaxBytes = 131072 + 512, MaxSegments = 33 };
        QueueLimits b = new QueueLimits(4096) with { DmaAlignment = 512, MaxBytes = 1 << 20, MaxSegments = 128 };
        QueueLimits expected = new QueueLimits(4096) with { DmaAlignment = 512, MaxBytes = 131072, MaxSegments = 33 };
        Assert.Equal(expected, a.Stack(b));
        Assert.Equal(expected, b.Stack(a));
        Assert.Equal(a, a.Stack(a));
    }

    [Fact]
    public void B3_splitting_against_a_byte_array_covers_every_byte_once_and_in_order()
    {
        for (int seed = 0; seed < 300; seed++)
        {
            var random = new Random(seed);
            using var bench = new FileBench(
                new QueueLimits(512) { MaxBytes = 512 * random.Next(1, 20), MaxSegments = random.Next(2, 6) }, capacity: 65536, bios: 1024);
            var pattern = new List<(long Memory, long Sector)>();
            var ranges = new BufferRange[random.Next(1, 6)];
            long fileOffset = 512 * random.Next(0, 130);
            long at = fileOffset;
            for (int i = 0; i < ranges.Length; i++)
            {
                ranges[i] = new BufferRange(4 * random.Next(10000), 512 * random.Next(0, 40));
                for (long done = 0; done < ranges[i].Length && at < 65536; done += 512, at += 512)
                    pattern.Add((ranges[i].Offset + done, at >> 9));
            }

            var map = new StillMap(1 << 20, 512 * random.Next(1, 30));
            IovIter iter = ranges.Length == 1
                ? IovIter.ForMap(map, ranges[0].Offset, ranges[0].Length, DmaDirection.FromDevice)
                : IovIter.ForMapRanges(map, ranges, DmaDirection.FromDevice);
            IoRequest request = bench.Request(fileOffset);
            Assert.Equal(Errno.Ok, bench.Queue.ReadIter(ref request, ref iter));
            var seen = new List<(long Memory, long Sector)>();
            foreach (Bio bio in bench.Device.Seen.Select(static s => s.Bio))
            {
                for (long done = 0; done < bio.Size; done += 512)
                    seen.Add((bio.Offset + done, bio.Sector + (done >> 9)));
            }

            Assert.True(pattern.SequenceEqual(seen), $"seed {seed}: {string.Join(' ', ranges)} at {fileOffset}");
            Assert.Equal((bench.Device.Seen.Count, 0L), (request.Pending, iter.Count));
            Assert.Equal(request.Pending, bench.Complete());
        }
    }

    private static Errno Read(FileBench bench, long offset, long size, long fileOffset, StillMap? map = null)
    {
        IovIter iter = IovIter.ForMap(map ?? new StillMap(1 << 20, 1 << 20), offset, size, DmaDirection.FromDevice);
        IoRequest request = bench.Request(fileOffset);
        return bench.Queue.ReadIter(ref request, ref iter);
    }

    private static Errno ReadVector(FileBench bench, params BufferRange[] ranges)
    {
        IovIter iter = IovIter.ForMapRanges(new StillMap(1L << 40, 1L << 40), ranges, DmaDirection.FromDevice);
        IoRequest request = bench.Request(0);
        return bench.Queue.ReadIter(ref request, ref iter);
    }

    private static long[] Borders(Random random, long smallest, int unit)
    {
        long[] borders = new long[random.Next(4, 40)];
        for (int i = 1; i < borders.Length; i++)
            borders[i] = borders[i - 1] + smallest + (random.Next(0, 3 * (int)smallest) & -unit);
        return borders;
    }

    private static int Segments(long[] borders, long offset, long size) =>
        1 + borders.Count(b => b > offset && b < offset + size);
}
