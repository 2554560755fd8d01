using DmaBufIo.Cli.Commands;
using DmaBufIo.DmaBufs;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Cli.Benching.Goals;

/// <summary>Goal 5: a request costs the same wherever it lies in the buffer, however many buffers, tokens and devices there are.</summary>
internal sealed class FlatGoal : BenchGoal
{
    private const long Steps = 64_000;
    private const long Window = 1 << 20;
    private const long Large = 16L << 30;
    private const int Many = 64;
    private const double Bound = 1.1; // a difference that a walk, a list or a search would far exceed
    private const string How = "null device, same thread, reads of 4 KiB at depth 32; 20 pairs in turn, upper 95 % bound";

    internal override int Number => 5;

    internal override string Title => "the cost of a request is flat";

    internal override async Task<IReadOnlyList<GoalResult>> RunAsync(GoalContext context)
    {
        var end = new List<double>();
        var spread = new List<double>();
        var buffers = new List<double>();
        var devices = new List<double>();
        await CommandHost.RunAsync(context.Common with { Iommu = IommuMode.Strict }, (host, _, stopping) =>
        {
            using var either = CancellationTokenSource.CreateLinkedTokenSource(stopping, context.Cancellation);
            using OpenedDevice device = host.Open("null:1T");
            using OpenedDevice crowded = host.Open("null:1T");
            DmaBuf large = ScatteredExporter.Create(Large, 1);
            DmaBuf small = ScatteredExporter.Create(Window, 1);
            DmaBuf[] many = [.. Enumerable.Range(0, Many).Select(static _ => ScatteredExporter.Create(Window, 1))];
            OpenedDevice[] others = [.. Enumerable.Range(0, 16).Select(_ => host.Open("null:1G"))];
            using (var one = new PathRig(device, small))
            using (var big = new PathRig(device, large))
            using (var crowd = new PathRig(device, many))
            using (var among = new PathRig(crowded, small))
            {
                PathRig[] busy = [.. others.Select(o => new PathRig(o, small))];
                foreach (PathRig rig in busy)
                    rig.Run(1);
                for (int run = -1; run < context.Runs; run++)
                {
                    either.Token.ThrowIfCancellationRequested();
                    context.Say($"flat cost, {(run < 0 ? "warming up" : $"run {run + 1}")}");
                    double atEnd = Compare(n => big.Run(n, start: Large - Window, length: Window), n => big.Run(n, length: Window));
                    double everywhere = Compare(n => big.Run(n, block: 4096, length: Large), n => big.Run(n, length: Window));
                    double inTurn = Compare(n => crowd.Run(n, length: Window, slots: Many), n => one.Run(n, length: Window));
                    double amongOthers = Compare(n => among.Run(n, length: Window), n => one.Run(n, length: Window));
                    if (run < 0)
                        continue;
                    end.Add(atEnd);
                    spread.Add(everywhere);
                    buffers.Add(inTurn);
                    devices.Add(amongOthers);
                }

                foreach (PathRig rig in busy)
                    rig.Dispose();
            }

            foreach (OpenedDevice other in others)
                other.Dispose();
            foreach (DmaBuf buffer in many.Append(small).Append(large))
                buffer.Put();
            return 0;
        });
        return
        [
            Judge("end over start of a buffer of 16 GiB", end, "ratio", GoalBound.AtMost, Bound, How),
            Judge("sweeping 16 GiB over 1 MiB", spread, "ratio", GoalBound.AtMost, Bound, How, "the list of pages no longer fits a cache"),
            Judge($"{Many} buffers and tokens over one", buffers, "ratio", GoalBound.AtMost, Bound, How, "another buffer for every batch"),
            Judge("one among 18 devices over one", devices, "ratio", GoalBound.AtMost, Bound, How),
        ];
    }

    private static double Compare(Action<long> first, Action<long> second) =>
        Paired.Measure(n => first(n / PathRig.Depth), n => second(n / PathRig.Depth), Steps).Upper;
}
