using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Memory;

namespace DmaBufIo.Exporters.Gpu.Tests;

/// <summary>The GPU's memory as a heap, against a row of granules.</summary>
public sealed class VramHeapTests
{
    private const int Granules = 64;

    [Fact]
    public void No_byte_is_given_out_twice_none_is_lost_and_there_is_room_as_long_as_enough_is_free()
    {
        for (int seed = 0; seed < 200; seed++)
        {
            var random = new Random(seed);
            using var heap = new VramHeap("heap", Granules * VramHeap.Granule);
            bool[] model = new bool[Granules];
            var taken = new List<IReadOnlyList<VramRange>>();
            for (int step = 0; step < 300; step++)
            {
                if (random.Next(5) < 3)
                {
                    int size = 1 + random.Next(20);
                    IReadOnlyList<VramRange>? ranges = heap.TryTake(size * VramHeap.Granule);
                    Assert.Equal(model.Count(static m => !m) >= size, ranges is not null);
                    if (ranges is null)
                        continue;
                    Assert.Equal(size * VramHeap.Granule, ranges.Sum(static r => r.Length));
                    Mark(model, ranges, isTaken: true);
                    taken.Add(ranges);
                }
                else if (taken.Count != 0)
                {
                    int which = random.Next(taken.Count);
                    Mark(model, taken[which], isTaken: false);
                    heap.Return(taken[which]);
                    taken.RemoveAt(which);
                }

                Assert.Equal(model.Count(static m => !m) * VramHeap.Granule, heap.Free);
            }

            // Joined again: a buffer as large as everything is in one piece.
            foreach (IReadOnlyList<VramRange> ranges in taken)
                heap.Return(ranges);
            Assert.Equal([new VramRange(0, heap.Size)], heap.TryTake(heap.Size)!);
        }
    }

    [Fact]
    public void A_hole_that_is_just_large_enough_is_used_before_a_larger_one_is_cut()
    {
        using var heap = new VramHeap("heap", 8 * VramHeap.Granule);
        IReadOnlyList<VramRange>[] all = [.. Enumerable.Range(0, 8).Select(_ => heap.TryTake(VramHeap.Granule)!)];
        heap.Return(all[1]);
        foreach (int i in new[] { 4, 5, 6 })
            heap.Return(all[i]);
        Assert.Equal([new VramRange(VramHeap.Granule, VramHeap.Granule)], heap.TryTake(VramHeap.Granule)!);
        Assert.Single(heap.TryTake(3 * VramHeap.Granule)!);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(4096)]
    [InlineData((1 << 20) + 4096)]
    public void Its_size_is_a_positive_multiple_of_the_granule(long size) =>
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => new VramHeap("heap", size)).Errno);

    private static void Mark(bool[] model, IReadOnlyList<VramRange> ranges, bool isTaken)
    {
        foreach (VramRange range in ranges)
        {
            for (long at = range.Offset; at < range.Offset + range.Length; at += VramHeap.Granule)
            {
                Assert.NotEqual(isTaken, model[at / VramHeap.Granule]);
                model[at / VramHeap.Granule] = isTaken;
            }
        }
    }
}
