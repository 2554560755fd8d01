using DmaBufIo.Models.Iommu;
using DmaBufIo.Rings;

namespace DmaBufIo.Cli.Benching.Goals;

/// <summary>
/// Goal 3: premapped against mapped per request in the modelled IOMMU. Counts are exact; ratios follow from the work and are reported.
/// </summary>
internal sealed class MappingGoal : BenchGoal
{
    private const string How = "random reads of 4 KiB at depth 32 from a file behind an inline controller, one buffer, one option changed; "
        + "counted while everything rests";

    private const string NullHow = "the same on a null device, same thread: nothing moves, so that only what the host does is in it";

    // What was published for the kernel's patch series, premapped over mapped per request.
    private static readonly (IommuMode Mode, double Published)[] s_modes =
    [
        (IommuMode.Strict, 8.8),
        (IommuMode.Lazy, 2.6),
        (IommuMode.Passthrough, 1.0),
    ];

    internal override int Number => 3;

    internal override string Title => "premapped against mapped per request";

    internal override async Task<IReadOnlyList<GoalResult>> RunAsync(GoalContext context)
    {
        string device = context.FileDevice(64 << 20, ",thread=off");
        var results = new List<GoalResult>();
        foreach ((IommuMode mode, double published) in s_modes)
        {
            var premapped = new List<BenchReport>();
            var perRequest = new List<BenchReport>();
            var premappedNull = new List<BenchReport>();
            var perRequestNull = new List<BenchReport>();
            for (int run = 0; run < context.Runs; run++)
            {
                // Interleaved, so that what else the machine does hits both.
                premapped.Add(await MeasureAsync(context, device, mode, BufferMapping.Premapped));
                perRequest.Add(await MeasureAsync(context, device, mode, BufferMapping.PerRequest));
                premappedNull.Add(await MeasureAsync(context, "null:64M", mode, BufferMapping.Premapped));
                perRequestNull.Add(await MeasureAsync(context, "null:64M", mode, BufferMapping.PerRequest));
            }

            AddCounts(results, mode, "premapped", premapped, mapped: 0);
            AddCounts(results, mode, "per-request", perRequest, mapped: 1);
            results.AddRange(Costs(Word(mode), published, premapped, perRequest, How));
            results.AddRange(Costs($"{Word(mode)}, null device", published, premappedNull, perRequestNull, NullHow));
        }

        return results;
    }

    private static Task<BenchReport> MeasureAsync(GoalContext context, string device, IommuMode mode, BufferMapping mapping)
    {
        string word = mapping == BufferMapping.Premapped ? "premapped" : "per-request";
        context.Say($"{Word(mode)}, {word}, {(device.StartsWith("null", StringComparison.Ordinal) ? "null device" : "file")}");
        return context.MeasureAsync(new BenchSettings { Device = device, Iommu = mode, Mapping = mapping });
    }

    private static string Word(IommuMode mode) => mode.ToString().ToLowerInvariant();

    private IEnumerable<GoalResult> Costs(string which, double published, List<BenchReport> premapped, List<BenchReport> each, string how)
    {
        const string Unit = "ns per request";
        string note = $"published for the kernel's series: {published:0.0}";
        yield return Report($"{which}, premapped: time", premapped.Select(static r => 1e9 / r.Iops), Unit, how);
        yield return Report($"{which}, per-request: time", each.Select(static r => 1e9 / r.Iops), Unit, how);
        yield return Report(
            $"{which}: premapped over per-request", premapped.Zip(each, static (a, b) => a.Iops / b.Iops), "ratio", how, note);
        yield return Report(
            $"{which}: what mapping per request adds", premapped.Zip(each, static (a, b) => (1e9 / b.Iops) - (1e9 / a.Iops)), Unit, how);
    }

    private void AddCounts(List<GoalResult> results, IommuMode mode, string mapping, List<BenchReport> reports, double mapped)
    {
        const string Unit = "per request";
        string name = $"{Word(mode)}, {mapping}";
        IEnumerable<double> Values(Func<IommuPerRequest, double> figure) => reports.Select(r => figure(r.IommuPerRequest));
        void Exactly(string what, Func<IommuPerRequest, double> figure, double target) =>
            results.Add(Judge($"{name}: {what}", Values(figure), Unit, GoalBound.Exactly, target, How));
        void Reported(string what, Func<IommuPerRequest, double> figure) =>
            results.Add(Report($"{name}: {what}", Values(figure), Unit, How));

        Exactly("maps", static i => i.Maps, mapped);
        Exactly("unmaps", static i => i.Unmaps, mapped);
        Exactly("acknowledged invalidations", static i => i.Invalidations, mode == IommuMode.Strict ? mapped : 0);

        // The lazy mode's flush comes when its queue is full: how often that is follows from the queue's length.
        if (mode == IommuMode.Lazy && mapped > 0)
            Reported("flushes", static i => i.Flushes);
        else
            Exactly("flushes", static i => i.Flushes, 0);
        Reported("IOTLB misses", static i => i.Misses);
        Reported("table walks", static i => i.Walks);
    }
}
