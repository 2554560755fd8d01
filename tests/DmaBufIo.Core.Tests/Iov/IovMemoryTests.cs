using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Iov;
using DmaBufIo.Memory;

namespace DmaBufIo.Tests.Iov;

/// <summary>Iterators over a registration's memory: pieces of regions, addressed by offsets into the whole.</summary>
public sealed class IovMemoryTests : IDisposable
{
    private readonly MemoryRegion[] _regions = [.. Enumerable.Range(0, 4).Select(static i => MemoryRegion.Allocate($"r{i}", 16384))];

    public void Dispose()
    {
        foreach (MemoryRegion region in _regions)
            region.Dispose();
    }

    [Fact]
    public void A_layout_finds_every_offset_and_joins_neighbours()
    {
        var random = new Random(3);
        for (int round = 0; round < 200; round++)
        {
            (MemoryLayout layout, List<(MemoryRegion Region, long Offset)> words) = Build(random);
            Assert.Equal(words.Count * 512L, layout.Length);
            for (int i = 1; i < layout.Pieces.Count; i++)
            {
                MemoryRange before = layout.Pieces[i - 1];
                bool continues = before.Region == layout.Pieces[i].Region && before.Offset + before.Length == layout.Pieces[i].Offset;
                Assert.False(continues, "neighbours were not joined");
            }

            for (int i = 0; i < words.Count; i++)
            {
                MemoryRange found = layout.At((i * 512L) + 4, 508);
                Assert.Equal(new MemoryRange(words[i].Region, words[i].Offset + 4, 508), found);
            }

            Assert.Throws<ArgumentOutOfRangeException>(() => layout.At(layout.Length, 1));
            Assert.Throws<ArgumentOutOfRangeException>(() => layout.At(-1, 1));
        }
    }

    [Fact]
    public void I2_any_walk_over_a_part_or_over_several_parts_stands_where_a_list_of_places_says()
    {
        var random = new Random(2);
        for (int round = 0; round < 500; round++)
        {
            (MemoryLayout layout, List<(MemoryRegion Region, long Offset)> words) = Build(random);
            bool vector = random.Next(2) == 0;
            BufferRange[] ranges = [.. Enumerable.Range(0, vector ? random.Next(1, 5) : 1).Select(_ => Range(random, words.Count, vector))];
            List<(MemoryRegion Region, long Offset)> places =
                [.. ranges.SelectMany(r => words.Skip((int)(r.Offset / 512)).Take((int)(r.Length / 512)))];
            IovIter iter = vector
                ? IovIter.ForMemoryRanges(layout, ranges, DmaDirection.FromDevice)
                : IovIter.ForMemory(layout, ranges[0].Offset, ranges[0].Length, DmaDirection.FromDevice);
            Walk(random, iter, places);
        }
    }

    [Fact]
    public void I2_I4_copies_by_CPU_go_where_the_iterator_stands()
    {
        var layout = new MemoryLayout([new MemoryRange(_regions[0], 512, 512), new MemoryRange(_regions[1], 0, 1024)]);
        byte[] data = new byte[1000];
        new Random(5).NextBytes(data);
        IovIter iter = IovIter.ForMemory(layout, 100, 1000, DmaDirection.FromDevice);
        Assert.Equal(Errno.Ok, iter.CopyTo(data, out int copied));
        Assert.Equal((1000, 0L), (copied, iter.Count));
        Assert.Equal(data[..412], _regions[0].Span(612, 412).ToArray());
        Assert.Equal(data[412..], _regions[1].Span(0, 588).ToArray());
        IovIter back = IovIter.ForMemoryRanges(layout, new BufferRange[] { new(600, 500), new(100, 500) }, DmaDirection.ToDevice);
        byte[] read = new byte[1000];
        Assert.Equal(Errno.Ok, back.CopyFrom(read, out copied));
        Assert.Equal([.. data[500..], .. data[..500]], read);
    }

    [Fact]
    public void I3_alignment_comes_from_the_places_in_the_regions()
    {
        var layout = new MemoryLayout([new MemoryRange(_regions[0], 4096, 4096), new MemoryRange(_regions[1], 8192, 4096)]);
        IovIter iter = IovIter.ForMemory(layout, 4096 - 512, 1024, DmaDirection.FromDevice);
        Assert.Equal((8192 - 512) | 512 | 8192, iter.Alignment());
        Assert.Equal(8192 | 8192, iter.GapAlignment());
    }

    private static BufferRange Range(Random random, int words, bool mayBeEmpty)
    {
        int start = random.Next(words);
        return new BufferRange(start * 512L, random.Next(mayBeEmpty ? 0 : 1, words - start + 1) * 512L);
    }

    private static void Walk(Random random, IovIter iter, List<(MemoryRegion Region, long Offset)> places)
    {
        IovIterState start = iter.Save();
        int at = 0;
        for (int step = 0; step < 30; step++)
        {
            int move = random.Next(-3, 6);
            bool allowed = at + move >= 0 && at + move <= places.Count;
            Errno status = move < 0 ? iter.Revert(-move * 512L, start) : iter.Advance(move * 512L);
            Assert.Equal(allowed ? Errno.Ok : Errno.EINVAL, status);
            at += allowed ? move : 0;
            Assert.Equal((places.Count - at) * 512L, iter.Count);
            if (at == places.Count)
                continue;
            MemoryRange here = iter.CurrentMemory;
            Assert.Equal(places[at], (here.Region, here.Offset));
            Assert.InRange(here.Length, 512, iter.Count);
            for (int i = 1; i < here.Length / 512; i++)
                Assert.Equal((here.Region, here.Offset + (i * 512)), places[at + i]);
        }
    }

    private (MemoryLayout Layout, List<(MemoryRegion Region, long Offset)> Words) Build(Random random)
    {
        var ranges = new List<MemoryRange>();
        var words = new List<(MemoryRegion, long)>();
        for (int i = random.Next(1, 8); i > 0; i--)
        {
            bool follow = ranges.Count > 0 && random.Next(2) == 0 && ranges[^1].Offset + ranges[^1].Length < 16384;
            MemoryRegion region = follow ? ranges[^1].Region : _regions[random.Next(4)];
            long offset = follow ? ranges[^1].Offset + ranges[^1].Length : random.Next(31) * 512L;
            long length = random.Next(1, (int)((16384 - offset) / 512) + 1) * 512L;
            ranges.Add(new MemoryRange(region, offset, length));
            for (long at = 0; at < length; at += 512)
                words.Add((region, offset + at));
        }

        return (new MemoryLayout(ranges), words);
    }
}
