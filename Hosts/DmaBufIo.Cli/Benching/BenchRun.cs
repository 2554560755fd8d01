using DmaBufIo.Cli.Commands;
using DmaBufIo.Cli.Output;
using DmaBufIo.Errors;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rings;

namespace DmaBufIo.Cli.Benching;

/// <summary>A run on a host of its own, from settings to report: what <c>bench</c> does once and the goals do many times.</summary>
internal static class BenchRun
{
    /// <summary>Runs a benchmark.</summary>
    /// <param name="settings">Checked settings.</param>
    /// <param name="common">Plugin folder and log.</param>
    /// <param name="live">Shows how far it is.</param>
    /// <param name="cancellationToken">Ends it early, as Ctrl-C does.</param>
    /// <returns>The report; <see cref="BenchReport.Error"/> says what failed.</returns>
    internal static async Task<BenchReport> MeasureAsync(
        BenchSettings settings, CommonSettings common, LiveLine live, CancellationToken cancellationToken = default)
    {
        BenchReport report = new() { Settings = BenchSettingsReport.From(settings) };
        await CommandHost.RunAsync(common with { Iommu = settings.Iommu }, (host, iommu, stopping) =>
        {
            using var either = CancellationTokenSource.CreateLinkedTokenSource(stopping, cancellationToken);
            try
            {
                using var job = new BenchJob(settings, host, iommu);
                report = job.Run(live, either.Token);
            }
            catch (DmaBufIoException e)
            {
                live.End();
                DmaBufIoException told = InOptions(e, settings);
                CommandOutput.Error(told);
                report = report with { Error = ErrorReport.From(told) };
            }

            report = Settle(report, iommu);
            return CommandOutput.Success;
        });
        return report;
    }

    // What the ring refuses for the way it was asked to work, with the options that ask for another.
    private static DmaBufIoException InOptions(DmaBufIoException e, BenchSettings settings) => e switch
    {
        not { Layer: "Rings", Errno: Errno.EOPNOTSUPP } => e,
        _ when settings.Mapping == BufferMapping.PerRequest => e.With("Give --mapping premapped, or an exporter that never moves: --via udmabuf"),
        _ when settings.Completion == CompletionMode.Interrupts => e.With("Leave --interrupts out"),
        _ => e,
    };

    // Also what closing has found: an unmapping that comes too late, a leak.
    private static BenchReport Settle(BenchReport report, ModelIommu iommu)
    {
        foreach (string problem in report.Problems.Take(5))
            CommandOutput.Message($"error: {problem}");
        foreach (IommuAccessReport access in iommu.Reports.Take(5))
            CommandOutput.Message($"error: {access}");
        if (report is { Interrupted: true, Requests: 0, Error: null })
        {
            var e = new DmaBufIoException(
                Errno.EINTR, "bench", "the measurement", "it was interrupted before a request had ended", "Start it again");
            CommandOutput.Message("interrupted");
            report = report with { Error = ErrorReport.From(e) };
        }

        return report with
        {
            Ok = report.Ok && iommu is { Faults: 0, StaleAccesses: 0 },
            IommuFaults = iommu.Faults,
            StaleAccesses = iommu.StaleAccesses,
        };
    }
}
