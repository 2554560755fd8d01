using DmaBufIo.Models.Iommu;
using DmaBufIo.Rings;

namespace DmaBufIo.Cli.Benching.Goals;

/// <summary>Goal 3: premapped against mapped per request in the modelled IOMMU. Counts are exact; ratios follow from the work and are reported.</summary>
internal sealed class MappingGoal : BenchGoal
{
    private const string How = "random reads of 4 KiB at depth 32 from a file behind an inline controller, one buffer, one option changed; counted while everything rests";
    private const string NullHow = "the same on a null device, same thread: nothing moves, so that only what the host does is in it";

    // What was published for the kernel's patch series, premapped over mapped per request.
    private static readonly (IommuMode Mode, double Published)[] s_modes = [(IommuMode.Strict, 8.8), (IommuMode.Lazy, 2.6), (IommuMode.Passthrough, 1.0)];

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
            AddCosts(results, mode, published, premapped, perRequest, "", How);
            AddCosts(results, mode, published, premappedNull, perRequestNull, ", null device", NullHow);
        }

        return results;
    }

    private void AddCosts(List<GoalResult> results, IommuMode mode, double published, List<BenchReport> premapped, List<BenchReport> perRequest, string which, string how)
    {
        results.Add(GoalResult.From(
            this, $"{Word(mode)}{which}: premapped over per-request", [.. premapped.Zip(perRequest, static (a, b) => a.Iops / b.Iops)], "ratio", GoalBound.None, null, how, $"published for the kernel's series: {published:0.0}"));
        results.Add(GoalResult.From(
            this, $"{Word(mode)}{which}: what mapping per request adds", [.. premapped.Zip(perRequest, static (a, b) => (1e9 / b.Iops) - (1e9 / a.Iops))], "ns per request", GoalBound.None, null, how));
    }

    private static Task<BenchReport> MeasureAsync(GoalContext context, string device, IommuMode mode, BufferMapping mapping)
    {
        context.Say($"{Word(mode)}, {(mapping == BufferMapping.Premapped ? "premapped" : "per-request")}, {(device.StartsWith("null", StringComparison.Ordinal) ? "null device" : "file")}");
        return context.MeasureAsync(new BenchSettings { Device = device, Iommu = mode, Mapping = mapping });
    }

    private static string Word(IommuMode mode) => mode.ToString().ToLowerInvariant();

    private void AddCounts(List<GoalResult> results, IommuMode mode, string mapping, List<BenchReport> reports, double mapped)
    {
        string name = $"{Word(mode)}, {mapping}";
        void Add(string what, Func<IommuPerRequest, double> figure, GoalBound bound, double? target) =>
            results.Add(GoalResult.From(this, $"{name}: {what}", [.. reports.Select(r => figure(r.IommuPerRequest))], "per request", bound, target, How));

        Add("maps", static i => i.Maps, GoalBound.Exactly, mapped);
        Add("unmaps", static i => i.Unmaps, GoalBound.Exactly, mapped);
        Add("acknowledged invalidations", static i => i.Invalidations, GoalBound.Exactly, mode == IommuMode.Strict ? mapped : 0);
        Add("flushes", static i => i.Flushes, mode == IommuMode.Lazy && mapped > 0 ? GoalBound.None : GoalBound.Exactly, mode == IommuMode.Lazy && mapped > 0 ? null : 0);
        Add("IOTLB misses", static i => i.Misses, GoalBound.None, null);
        Add("table walks", static i => i.Walks, GoalBound.None, null);
        results.Add(GoalResult.From(this, $"{name}: time", [.. reports.Select(static r => 1e9 / r.Iops)], "ns per request", GoalBound.None, null, How));
    }
}
