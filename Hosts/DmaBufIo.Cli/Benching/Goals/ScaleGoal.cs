using System.Diagnostics;
using DmaBufIo.Cli.Commands;
using DmaBufIo.DmaBufs;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Cli.Benching.Goals;

/// <summary>Goal 4: two threads with rings of their own do nearly twice the work of one.</summary>
internal sealed class ScaleGoal : BenchGoal
{
    private const string How = "null device, same thread, reads of 4 KiB at depth 32; one and two threads in turn; the median of the pairs";

    internal override int Number => 4;

    internal override string Title => "two threads against one";

    internal override async Task<IReadOnlyList<GoalResult>> RunAsync(GoalContext context)
    {
        if (Environment.ProcessorCount < 2)
        {
            context.Say("goal 4 is left out: there is one processor");
            return [];
        }

        var same = new List<double>();
        var different = new List<double>();
        await CommandHost.RunAsync(context.Common with { Iommu = IommuMode.Strict }, (host, _, stopping) =>
        {
            using var either = CancellationTokenSource.CreateLinkedTokenSource(stopping, context.Cancellation);
            using OpenedDevice device = host.Open("null:1T");
            DmaBuf one = ScatteredExporter.Create(16 << 20, 1);
            DmaBuf other = ScatteredExporter.Create(16 << 20, 1);
            using (var first = new PathRig(device, one))
            using (var sharing = new PathRig(device, one))
            using (var apart = new PathRig(device, other))
            {
                for (int run = -1; run < context.Runs; run++)
                {
                    either.Token.ThrowIfCancellationRequested();
                    context.Say($"two threads, {(run < 0 ? "warming up" : $"run {run + 1}")}");
                    double together = Ratio(first, sharing, context.Runtime);
                    double separate = Ratio(first, apart, context.Runtime);
                    if (run < 0)
                        continue;
                    same.Add(together);
                    different.Add(separate);
                }
            }

            one.Put();
            other.Put();
            return 0;
        });
        return
        [
            Judge("the same buffer", same, "ratio", GoalBound.AtLeast, 1.9, How),
            Judge("a buffer each", different, "ratio", GoalBound.AtLeast, 1.9, How),
        ];
    }

    private static double Ratio(PathRig first, PathRig second, TimeSpan runtime)
    {
        const int Pairs = 10;
        var ratios = new double[Pairs];
        TimeSpan each = runtime / (2 * Pairs);
        for (int i = 0; i < Pairs; i++)
        {
            double alone = Throughput(each, first);
            ratios[i] = Throughput(each, first, second) / alone;
        }

        return Paired.Median(ratios);
    }

    private static double Throughput(TimeSpan time, params PathRig[] rigs)
    {
        using var start = new Barrier(rigs.Length);
        var rates = new double[rigs.Length];
        Thread[] threads = [.. rigs.Select((rig, i) => new Thread(() =>
        {
            rig.Run(1000);
            start.SignalAndWait();
            long begun = Stopwatch.GetTimestamp();
            long batches = 0;
            TimeSpan elapsed;
            do
            {
                rig.Run(500);
                batches += 500;
                elapsed = Stopwatch.GetElapsedTime(begun);
            }
            while (elapsed < time);
            rates[i] = batches / elapsed.TotalSeconds;
        }))];
        foreach (Thread thread in threads)
            thread.Start();
        foreach (Thread thread in threads)
            thread.Join();
        return rates.Sum();
    }
}
