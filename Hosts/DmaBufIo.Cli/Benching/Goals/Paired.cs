using System.Diagnostics;

namespace DmaBufIo.Cli.Benching.Goals;

/// <summary>Two pieces of work timed in turn, so that what else the machine does hits both.</summary>
/// <param name="First">Nanoseconds per step of the first: the median.</param>
/// <param name="Second">Of the second.</param>
/// <param name="Upper">The upper 95 % bound of the mean of the pairs' ratios, first over second.</param>
internal readonly record struct Paired(double First, double Second, double Upper)
{
    internal const int Pairs = 20;
    private const double Student95 = 1.729; // one-sided, 19 degrees of freedom

    /// <summary>Times both, <see cref="Pairs"/> times.</summary>
    /// <param name="first">Does so many steps.</param>
    /// <param name="second">Does so many steps.</param>
    /// <param name="steps">How many.</param>
    internal static Paired Measure(Action<long> first, Action<long> second, long steps)
    {
        var firsts = new double[Pairs];
        var seconds = new double[Pairs];
        for (int i = 0; i < Pairs; i++)
        {
            firsts[i] = Time(first, steps);
            seconds[i] = Time(second, steps);
        }

        double[] ratios = [.. firsts.Zip(seconds, static (a, b) => a / b)];
        double mean = ratios.Average();
        double deviation = Math.Sqrt(ratios.Sum(r => (r - mean) * (r - mean)) / (Pairs - 1));
        return new Paired(Median(firsts), Median(seconds), mean + (Student95 * deviation / Math.Sqrt(Pairs)));
    }

    internal static double Median(double[] values)
    {
        double[] sorted = [.. values.Order()];
        return (sorted[sorted.Length / 2] + sorted[(sorted.Length - 1) / 2]) / 2;
    }

    private static double Time(Action<long> work, long steps)
    {
        long begun = Stopwatch.GetTimestamp();
        work(steps);
        return Stopwatch.GetElapsedTime(begun).TotalNanoseconds / steps;
    }
}
