using DmaBufIo.Cli.Output;

namespace DmaBufIo.Cli.Benching;

/// <summary>Figures for people.</summary>
internal static class BenchText
{
    /// <summary>"1.23 M".</summary>
    internal static string Count(double value) => value switch
    {
        >= 1e6 => $"{value / 1e6:0.00} M",
        >= 1e4 => $"{value / 1e3:0.0} k",
        >= 100 => $"{value:0}",
        _ => $"{value:0.##}",
    };

    /// <summary>"12.3 us".</summary>
    internal static string Time(double nanoseconds) => nanoseconds switch
    {
        >= 1e9 => $"{nanoseconds / 1e9:0.000} s",
        >= 1e6 => $"{nanoseconds / 1e6:0.00} ms",
        >= 1e3 => $"{nanoseconds / 1e3:0.00} us",
        _ => $"{nanoseconds:0} ns",
    };

    internal static void Print(BenchReport report)
    {
        BenchSettingsReport settings = report.Settings;
        LatencyReport latency = report.LatencyNs;
        IommuPerRequest iommu = report.IommuPerRequest;
        CommandOutput.Data(
            $"{settings.Rw} of {settings.Block} bytes on {settings.Device}, {settings.Threads} x {settings.QueueDepth} in flight, "
            + $"{settings.Completion}, via {settings.Via}, {settings.Mapping}, IOMMU {settings.Iommu}");
        if (report.Label is { } label)
            CommandOutput.Data($"label         {label}");
        CommandOutput.Data($"requests      {report.Requests} in {report.Seconds:0.000} s{(report.Interrupted ? ", interrupted" : "")}");
        CommandOutput.Data($"IOPS          {Count(report.Iops)}  ({(report.Iops > 0 ? 1e9 / report.Iops : 0):0.0} ns per request)");
        if (report.Parts != 0)
            CommandOutput.Data($"children      {(double)report.Parts / report.Requests:0.##} per request, {report.NsPerPart:0.0} ns per child");
        CommandOutput.Data($"bandwidth     {report.BytesPerSecond / 1e6:0.0} MB/s");
        CommandOutput.Data($"latency       min {Time(latency.Min)}, mean {Time(latency.Mean)}, max {Time(latency.Max)}");
        CommandOutput.Data(
            $"              p50 {Time(latency.P50)}, p90 {Time(latency.P90)}, p99 {Time(latency.P99)}, p99.9 {Time(latency.P999)}, "
            + $"p99.99 {Time(latency.P9999)}");
        CommandOutput.Data($"CPU           {report.CpuUse * 100:0} % of a core");
        CommandOutput.Data($"allocated     {report.AllocatedBytesPerRequest:0.####} bytes per request, {report.AllocatedBytes} in all");
        CommandOutput.Data($"maps          {report.Maps}, requests issued again {report.Reissued}");
        CommandOutput.Data($"invalidations {report.Invalidations}, under load {report.InvalidationsUnderLoad}");
        CommandOutput.Data($"IOMMU         {report.IommuFaults} faults, {report.StaleAccesses} stale accesses");
        CommandOutput.Data(
            $"  per request maps {iommu.Maps:0.####}, unmaps {iommu.Unmaps:0.####}, walks {iommu.Walks:0.####}, "
            + $"misses {iommu.Misses:0.####}, invalidations {iommu.Invalidations:0.####}, flushes {iommu.Flushes:0.####}");
        CommandOutput.Data(report.Ok ? "ok" : "FAILED");
    }
}
