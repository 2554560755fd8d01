using DmaBufIo.Cli.Output;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rings;

namespace DmaBufIo.Cli.Benching;

/// <summary>
/// What <c>bench</c> prints, as text or as one JSON object. All figures are of the measurement alone: the warm-up is not in them.
/// </summary>
internal sealed record BenchReport
{
    public bool Ok { get; init; }

    /// <summary>The run was ended before its time.</summary>
    public bool Interrupted { get; init; }

    /// <summary>What must be said with the figures, for example that nothing was moved; or null.</summary>
    public string? Label { get; init; }

    public double Iops { get; init; }

    public double BytesPerSecond { get; init; }

    public LatencyReport LatencyNs { get; init; } = new();

    /// <summary>Processor time of the process over elapsed time: 1 is one core.</summary>
    public double CpuUse { get; init; }

    public double AllocatedBytesPerRequest { get; init; }

    public long AllocatedBytes { get; init; }

    public long Requests { get; init; }

    public long Bytes { get; init; }

    public double Seconds { get; init; }

    public long Maps { get; init; }

    public long Invalidations { get; init; }

    public long InvalidationsUnderLoad { get; init; }

    public long Reissued { get; init; }

    /// <summary>Requests to the members of sets, on every level; 0 on a device that stands on none.</summary>
    public long Parts { get; init; }

    /// <summary>Nanoseconds of a thread per part, everything above and below included; 0 without parts.</summary>
    public double NsPerPart => Parts == 0 ? 0 : Seconds * 1e9 * Settings.Threads / Parts;

    public long IommuFaults { get; init; }

    public long StaleAccesses { get; init; }

    public IommuPerRequest IommuPerRequest { get; init; } = new();

    /// <summary>
    /// When the first request of the measurement was reaped: nanoseconds of the system's monotonic clock; 0 when there was none.
    /// </summary>
    public long FirstCompletionNs { get; init; }

    public required BenchSettingsReport Settings { get; init; }

    public IReadOnlyList<string> Problems { get; init; } = [];

    public ErrorReport? Error { get; init; }
}

/// <summary>Latencies in nanoseconds; see <see cref="LatencyHistogram"/> for their error.</summary>
internal sealed record LatencyReport
{
    public double Min { get; init; }

    public double Mean { get; init; }

    public double P50 { get; init; }

    public double P90 { get; init; }

    public double P99 { get; init; }

    public double P999 { get; init; }

    public double P9999 { get; init; }

    public double Max { get; init; }

    /// <summary>Summarises a histogram.</summary>
    /// <param name="histogram">The durations.</param>
    /// <param name="nanoseconds">Of one unit of the histogram.</param>
    internal static LatencyReport From(LatencyHistogram histogram, double nanoseconds) => new()
    {
        Min = histogram.Min * nanoseconds,
        Mean = histogram.Mean * nanoseconds,
        P50 = histogram.Percentile(5000) * nanoseconds,
        P90 = histogram.Percentile(9000) * nanoseconds,
        P99 = histogram.Percentile(9900) * nanoseconds,
        P999 = histogram.Percentile(9990) * nanoseconds,
        P9999 = histogram.Percentile(9999) * nanoseconds,
        Max = histogram.Max * nanoseconds,
    };
}

/// <summary>What the modelled IOMMU did, per request. Exact: no device was active when it was counted.</summary>
internal sealed record IommuPerRequest
{
    public double Maps { get; init; }

    public double Unmaps { get; init; }

    public double Walks { get; init; }

    public double Misses { get; init; }

    public double Invalidations { get; init; }

    public double Flushes { get; init; }

    internal static IommuPerRequest Between(IommuCounters before, IommuCounters after, long requests)
    {
        // A quotient of two equal counts is exactly 1.
        double Per(long count) => requests == 0 ? 0 : (double)count / requests;
        return new IommuPerRequest
        {
            Maps = Per(after.Maps - before.Maps),
            Unmaps = Per(after.Unmaps - before.Unmaps),
            Walks = Per(after.TableWalks - before.TableWalks),
            Misses = Per(after.IotlbMisses - before.IotlbMisses),
            Invalidations = Per(after.AcknowledgedInvalidations - before.AcknowledgedInvalidations),
            Flushes = Per(after.Flushes - before.Flushes),
        };
    }
}

/// <summary>The settings of a run, echoed.</summary>
internal sealed record BenchSettingsReport(
    string Device,
    string Via,
    string Rw,
    long Block,
    int QueueDepth,
    int Threads,
    double Runtime,
    double Warmup,
    long? Requests,
    string Iommu,
    string Invalidation,
    string Mapping,
    double InvalidateRate,
    string Completion,
    long Buffer)
{
    internal static BenchSettingsReport From(BenchSettings settings) => new(
        settings.Device,
        settings.Exporter,
        settings.Pattern.Text,
        settings.Block,
        settings.QueueDepth,
        settings.Threads,
        settings.Runtime.TotalSeconds,
        settings.Warmup.TotalSeconds,
        settings.Requests,
        settings.Iommu.ToString().ToLowerInvariant(),
        settings.Invalidation.ToString().ToLowerInvariant(),
        settings.Mapping == BufferMapping.Premapped ? "premapped" : "per-request",
        settings.InvalidateRate,
        settings.Completion.ToString().ToLowerInvariant(),
        settings.Buffer);
}
