using System.Numerics;

namespace DmaBufIo.Cli.Benching;

/// <summary>
/// A log-linear histogram of durations: 128 buckets per power of two, values below 256 exactly. What it answers is at most 1/128 (0.79 %)
/// above the exact percentile and never below it; least, greatest and mean are exact. Fixed memory (57 KiB), any value from 0 to 2^63 - 1,
/// no allocation after construction.
/// </summary>
/// <remarks>One thread records; others read when it rests.</remarks>
internal sealed class LatencyHistogram
{
    /// <summary>The largest relative error of a percentile is 2 to the power of minus this.</summary>
    internal const int PrecisionBits = 7;

    private const int SubBuckets = 1 << PrecisionBits;
    private const int Buckets = ((62 - PrecisionBits) << PrecisionBits) + (2 * SubBuckets);
    private readonly long[] _counts = new long[Buckets];
    private Int128 _sum;

    /// <summary>Values recorded.</summary>
    internal long Count { get; private set; }

    /// <summary>The least value; 0 when there is none.</summary>
    internal long Min { get; private set; }

    /// <summary>The greatest value; 0 when there is none.</summary>
    internal long Max { get; private set; }

    /// <summary>The mean; 0 when there is no value.</summary>
    internal double Mean => Count == 0 ? 0 : (double)_sum / Count;

    /// <summary>Counts a value; a negative one, of a clock that went backwards, counts as 0.</summary>
    internal void Record(long value)
    {
        value = Math.Max(0, value);
        _counts[IndexOf(value)]++;
        _sum += value;
        if (Count++ == 0 || value < Min)
            Min = value;
        if (value > Max)
            Max = value;
    }

    /// <summary>Adds what another one has counted.</summary>
    internal void Add(LatencyHistogram other)
    {
        if (other.Count == 0)
            return;
        for (int i = 0; i < _counts.Length; i++)
            _counts[i] += other._counts[i];
        Min = Count == 0 ? other.Min : Math.Min(Min, other.Min);
        Max = Math.Max(Max, other.Max);
        _sum += other._sum;
        Count += other.Count;
    }

    /// <summary>Forgets everything.</summary>
    internal void Clear()
    {
        Array.Clear(_counts);
        _sum = 0;
        (Count, Min, Max) = (0, 0, 0);
    }

    /// <summary>The least value that so many of the values do not exceed (nearest rank), as exact as the buckets are.</summary>
    /// <param name="tenThousandths">5000 is the median, 9999 is p99.99.</param>
    internal long Percentile(int tenThousandths)
    {
        long rank = Math.Max(1, (long)((((Int128)Count * tenThousandths) + 9999) / 10000));
        long seen = 0;
        for (int i = 0; i < _counts.Length; i++)
        {
            seen += _counts[i];
            if (seen >= rank)
                return Math.Clamp(HighestOf(i), Min, Max);
        }

        return Max;
    }

    private static int IndexOf(long value)
    {
        if (value < 2 * SubBuckets)
            return (int)value;
        int shift = BitOperations.Log2((ulong)value) - PrecisionBits;
        return (shift << PrecisionBits) + (int)(value >> shift);
    }

    private static long HighestOf(int index)
    {
        if (index < 2 * SubBuckets)
            return index;
        int shift = (index >> PrecisionBits) - 1;
        long sub = index - (shift << PrecisionBits);
        return (long)(((UInt128)(sub + 1) << shift) - 1);
    }
}
