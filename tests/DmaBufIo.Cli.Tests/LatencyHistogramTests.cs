using DmaBufIo.Cli.Benching;
using FsCheck;
using FsCheck.Fluent;

namespace DmaBufIo.Cli.Tests;

public sealed class LatencyHistogramTests
{
    private static readonly int[] s_ranks = [0, 1, 5000, 9000, 9900, 9990, 9999, 10000];

    // Of any magnitude: a plain generator would give small numbers, or large ones only.
    private static readonly Gen<long> s_value =
        from bits in Gen.Choose(0, 63)
        from high in Gen.Choose(0, int.MaxValue)
        from low in Gen.Choose(0, int.MaxValue)
        select (((long)high << 32) | (uint)low) & (bits == 63 ? long.MaxValue : (1L << bits) - 1);

    [Fact]
    public void A_percentile_is_never_below_the_exact_one_and_at_most_one_128th_above() => Check.One(
        Config.QuickThrowOnFailure.WithMaxTest(500),
        Prop.ForAll(Arb.From(s_value.ArrayOf()), values =>
        {
            var histogram = new LatencyHistogram();
            foreach (long value in values)
                histogram.Record(value);
            AssertAgrees(histogram, values);
        }));

    [Fact]
    public void Histograms_added_up_answer_as_one_that_has_recorded_everything() => Check.One(
        Config.QuickThrowOnFailure.WithMaxTest(200),
        Prop.ForAll(Arb.From(s_value.ArrayOf()), Arb.From(s_value.ArrayOf()), (first, second) =>
        {
            var sum = new LatencyHistogram();
            foreach (long[] part in new[] { first, second })
            {
                var histogram = new LatencyHistogram();
                foreach (long value in part)
                    histogram.Record(value);
                sum.Add(histogram);
            }

            AssertAgrees(sum, [.. first, .. second]);
        }));

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(99)]
    [InlineData(100)]
    [InlineData(10_000)]
    [InlineData(10_001)]
    public void Where_buckets_are_exact_so_are_percentiles_by_nearest_rank(int count)
    {
        var histogram = new LatencyHistogram();
        long[] values = [.. Enumerable.Range(0, count).Select(i => (long)i * 255 / count)];
        foreach (long value in values.Reverse())
            histogram.Record(value);
        foreach (int rank in s_ranks)
            Assert.Equal(Exact(values, rank), histogram.Percentile(rank));
    }

    [Fact]
    public void Every_boundary_between_buckets_keeps_the_promise()
    {
        for (int bit = 0; bit < 63; bit++)
        {
            foreach (long offset in new long[] { -1, 0, 1 })
            {
                long value = Math.Max(0, (1L << bit) + offset);
                var histogram = new LatencyHistogram();
                histogram.Record(value);
                histogram.Record(long.MaxValue);
                long answer = histogram.Percentile(5000);
                Assert.True(answer >= value && answer - value <= value >> LatencyHistogram.PrecisionBits, $"{value}: {answer}");
            }
        }
    }

    [Fact]
    public void An_empty_one_answers_zero_and_one_that_was_cleared_is_empty()
    {
        var histogram = new LatencyHistogram();
        histogram.Record(5);
        histogram.Record(-3);
        Assert.Equal((2, 0L, 5L, 2.5), (histogram.Count, histogram.Min, histogram.Max, histogram.Mean));
        histogram.Clear();
        Assert.Equal((0, 0L, 0L, 0d, 0L), (histogram.Count, histogram.Min, histogram.Max, histogram.Mean, histogram.Percentile(9999)));
        histogram.Record(7);
        Assert.Equal((7L, 7L), (histogram.Min, histogram.Percentile(5000)));
    }

    [Fact]
    public void Recording_allocates_nothing()
    {
        var histogram = new LatencyHistogram();
        histogram.Record(1);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100_000; i++)
            histogram.Record(i * 977L);
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    [Theory]
    [InlineData("2s", 2)]
    [InlineData("500ms", 0.5)]
    [InlineData("1.5", 1.5)]
    [InlineData("250us", 0.00025)]
    [InlineData("1m", 60)]
    [InlineData("0", 0)]
    public void Durations_are_read_as_written(string text, double seconds)
    {
        Assert.True(Duration.TryParse(text, out TimeSpan duration));
        Assert.Equal(seconds, duration.TotalSeconds, 9);
    }

    [Theory]
    [InlineData("")]
    [InlineData("s")]
    [InlineData("-1s")]
    [InlineData("2h")]
    [InlineData("1e9")]
    [InlineData("NaN")]
    [InlineData("∞")]
    [InlineData("100000s")]
    [InlineData("1 000")]
    public void What_is_no_duration_is_refused(string text) => Assert.False(Duration.TryParse(text, out _));

    private static void AssertAgrees(LatencyHistogram histogram, long[] values)
    {
        Assert.Equal(values.Length, histogram.Count);
        if (values.Length == 0)
            return;
        Assert.Equal((values.Min(), values.Max()), (histogram.Min, histogram.Max));
        double mean = values.Average(static v => (double)v);
        Assert.True(Math.Abs(histogram.Mean - mean) <= mean * 1e-9, $"mean {histogram.Mean} instead of {mean}");
        foreach (int rank in s_ranks)
        {
            long exact = Exact(values, rank);
            long answer = histogram.Percentile(rank);
            Assert.True(
                answer >= exact && answer - exact <= exact >> LatencyHistogram.PrecisionBits, $"rank {rank}: {answer} instead of {exact}");
        }
    }

    /// <summary>The least value that so many ten-thousandths of all do not exceed, by definition.</summary>
    private static long Exact(long[] values, int rank) =>
        values.Order().First(v => values.Count(other => other <= v) * 10_000L >= (long)values.Length * rank);
}
