using System.CommandLine;
using System.Diagnostics;
using DmaBufIo.Cli.Copying;
using DmaBufIo.Cli.Output;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Plugins;
using DmaBufIo.Tokens;

namespace DmaBufIo.Cli.Commands;

/// <summary><c>copy SRC DST</c>: the main job.</summary>
internal static class CopyCommand
{
    internal static Command Create()
    {
        var source = new Argument<string>("SRC") { Description = "A file, or a device expression: a set of devices, a file on devices" };
        var destination = new Argument<string>("DST") { Description = "A file, created or overwritten, or a device expression; member files that do not exist are created" };
        var via = Text("--via", "udmabuf", "Who owns the buffer: an exporter, for example udmabuf or moving");
        var buffer = Text("--buffer", "16M", "Size of the buffer, whole pages");
        var queueDepth = new Option<int>("--queue-depth") { Description = "Requests in flight", DefaultValueFactory = static _ => 32 };
        var block = Text("--block", "128K", "Bytes per request, whole logical blocks");
        var lba = new Option<int>("--lba") { Description = "Logical block of both namespaces: 512 or 4096", DefaultValueFactory = static _ => 512 };
        var iommu = Text("--iommu", "strict", "The modelled IOMMU: strict, lazy or passthrough");
        var invalidation = Text("--invalidation", "draining", "How an invalidation waits for requests: draining or fenced");
        var every = new Option<long>("--invalidate-every") { Description = "Move the buffer once per so many requests; needs an exporter that moves; 0 is never" };
        var pressure = new Option<bool>("--pressure") { Description = "Other users press the exporter's memory, so that it evicts; needs an exporter with memory of its own" };
        var length = new Option<string>("--length") { Description = "Bytes to copy at most; all when not given" };
        var keep = new Option<bool>("--keep-partial") { Description = "Do not remove a destination that is not complete" };
        var command = new Command("copy", "Copies a file between two NVMe devices through one dma-buf and compares SHA-256")
        {
            source, destination, via, buffer, queueDepth, block, lba, iommu, invalidation, every, pressure, length, keep,
        };
        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction((parsed, _) => CommandGuard.RunAsync(common.Read(parsed).Json, () =>
        {
            CopySettings settings = new CopySettings
            {
                Source = parsed.GetRequiredValue(source),
                Destination = parsed.GetRequiredValue(destination),
                Exporter = parsed.GetRequiredValue(via),
                Buffer = CopySettings.Size("--buffer", parsed.GetRequiredValue(buffer)),
                QueueDepth = parsed.GetRequiredValue(queueDepth),
                Block = CopySettings.Size("--block", parsed.GetRequiredValue(block)),
                Lba = parsed.GetRequiredValue(lba),
                Iommu = CopySettings.Choice<IommuMode>("--iommu", parsed.GetRequiredValue(iommu)),
                Invalidation = CopySettings.Choice<InvalidationDesign>("--invalidation", parsed.GetRequiredValue(invalidation)),
                Length = parsed.GetValue(length) is { } text ? CopySettings.Size("--length", text) : null,
                InvalidateEvery = parsed.GetValue(every),
                Pressure = parsed.GetValue(pressure),
                KeepPartial = parsed.GetValue(keep),
            }.Validate();
            CommonSettings all = common.Read(parsed) with { Iommu = settings.Iommu };
            return CommandHost.RunAsync(all, (host, fabric, token) => Run(settings, all, host, fabric, token));
        }));
        return command;
    }

    private static Option<string> Text(string name, string fallback, string description) =>
        new(name) { Description = description, DefaultValueFactory = _ => fallback };

    private static int Run(CopySettings settings, CommonSettings common, DmaBufIoHost host, ModelIommu iommu, CancellationToken cancellationToken)
    {
        var report = new CopyReport { Source = settings.Source, Destination = settings.Destination, Exporter = settings.Exporter };
        try
        {
            report = Copy(settings, common, report, host, iommu, cancellationToken);
        }
        catch (DmaBufIoException e)
        {
            CommandOutput.Error(e);
            report = report with { Error = ErrorReport.From(e), IommuFaults = iommu.Faults, StaleAccesses = iommu.StaleAccesses };
        }

        if (report is { Ok: false, Error: null })
            CommandOutput.Message($"error: the destination is not what it should be: {Reasons(report)}");
        foreach (IommuAccessReport access in iommu.Reports.Take(5))
            CommandOutput.Message($"error: {access}");
        if (common.Json)
            CommandOutput.Json(report);
        else if (report.Error is null)
            Print(report);
        return report.Ok ? CommandOutput.Success : CommandOutput.Failure;
    }

    private static CopyReport Copy(CopySettings settings, CommonSettings common, CopyReport report, DmaBufIoHost host, ModelIommu iommu, CancellationToken cancellationToken)
    {
        DeviceExpression sourceExpression = Expressions.Parse(host, settings.Source);
        DeviceExpression destinationExpression = Expressions.Parse(host, settings.Destination);
        using ExportedBuffer exported = host.CreateBuffer(settings.Exporter, "copy", settings.Buffer);
        if (settings.InvalidateEvery > 0 && exported.Mover is null)
            throw new DmaBufIoException(Errno.EINVAL, "copy", "option --invalidate-every", $"exporter '{settings.Exporter}' never moves its buffers", "Use an exporter that moves, for example --via moving", rule: "F7");
        if (settings.Pressure && exported.Presser is null)
            throw new DmaBufIoException(Errno.EINVAL, "copy", "option --pressure", $"exporter '{settings.Exporter}' has no memory that can be short", "Use an exporter with memory of its own, for example --via gpu:vram=64M");
        EndFiles.CheckApart(sourceExpression, destinationExpression);
        ICopySource from = EndFiles.IsFile(sourceExpression) ? new FileSource(sourceExpression, settings.Lba) : new DeviceSource(host, sourceExpression, settings.Lba);
        var watch = Stopwatch.StartNew();
        var problems = new List<string>();
        var warnings = new List<string>();
        ICopyDestination to;
        long size;
        using (OpenedDevice source = host.Open(from.Expression, readOnly: true))
        {
            Warn(warnings, DegradedMembers.Of("SRC", source.Root));
            size = settings.Length is { } length ? Math.Min(length, from.SizeOf(source)) : from.SizeOf(source);
            to = EndFiles.IsFile(destinationExpression)
                ? new FileDestination(destinationExpression, size, settings.Lba, settings.KeepPartial)
                : new DeviceDestination(host, destinationExpression, size, settings.Lba, settings.KeepPartial);
            try
            {
                using OpenedDevice destination = host.Open(to.Expression, readOnly: false);
                to.Opened();
                try
                {
                    report = Move(settings, common, report, source, destination, exported, size, to.Label, cancellationToken);
                    DegradedMembers.WaitForRebuilding(destination.Root, cancellationToken);
                    Warn(warnings, DegradedMembers.Of("DST", destination.Root));
                }
                finally
                {
                    problems.AddRange(source.Root.Problems.Concat(destination.Root.Problems));
                    foreach (string problem in problems.Take(5))
                        CommandOutput.Message($"error: {problem}");
                }
            }
            catch
            {
                to.Dispose();
                throw;
            }
        }

        using ICopyDestination files = to;
        files.Complete();
        watch.Stop();
        string before = from.Hash(size, cancellationToken);
        string after = files.Hash(cancellationToken);
        report = report with { IsInPlace = files.IsInPlace };
        bool ok = before == after && iommu is { Faults: 0, StaleAccesses: 0 } && problems.Count == 0;
        if (ok)
            files.Publish();
        double seconds = watch.Elapsed.TotalSeconds;
        return report with
        {
            Ok = ok,
            Seconds = seconds,
            BytesPerSecond = seconds > 0 ? report.Bytes / seconds : 0,
            IommuFaults = iommu.Faults,
            StaleAccesses = iommu.StaleAccesses,
            Sha256Source = before,
            Sha256Destination = after,
            Problems = problems,
            Warnings = warnings,
        };
    }

    private static void Warn(List<string> warnings, IEnumerable<string> lines)
    {
        foreach (string line in lines)
        {
            warnings.Add(line);
            CommandOutput.Message($"warning: {line}");
        }
    }

    private static string Reasons(CopyReport report)
    {
        var reasons = new List<string>();
        if (report.Sha256Source != report.Sha256Destination)
            reasons.Add($"its SHA-256 is {report.Sha256Destination}, the source's {report.Sha256Source}");
        if (report.IommuFaults != 0 || report.StaleAccesses != 0)
            reasons.Add($"devices made {report.IommuFaults} accesses that the IOMMU refused and {report.StaleAccesses} to memory that was not theirs any more");
        reasons.AddRange(report.Problems.Take(3));
        return $"{string.Join("; ", reasons)}; {(report.IsInPlace ? "what was written stays" : "it was not put in place")}";
    }

    private static CopyReport Move(
        CopySettings settings, CommonSettings common, CopyReport report, OpenedDevice source, OpenedDevice destination, ExportedBuffer exported, long size, string label, CancellationToken cancellationToken)
    {
        IoFile from = source.OpenFile(OpenFlags.Direct | OpenFlags.ReadOnly);
        IoFile to = destination.OpenFile();
        ProgressLine.Run($"copy to {label}", size, quiet: common.Json && !common.Verbose, progress =>
        {
            using IMemoryPressure? pressure = settings.Pressure ? exported.Presser!.Press(exported.Buffer) : null;
            using BufferMover? mover = settings.InvalidateEvery > 0 ? new BufferMover(exported.Mover!, exported.Buffer, settings.InvalidateEvery) : null;
            using var job = new CopyJob(settings, from, to, exported.Buffer, size, mover, progress);
            job.Run(cancellationToken);
            mover?.Dispose();
            if (mover?.Failure is { } failure)
                throw failure;
            if (pressure?.Failure is { } broken)
                throw new DmaBufIoException(Errno.EIO, "copy", exported.Name, $"another user of the memory found it damaged: {broken}", "Correct the exporter, or the driver of a device that wrote where it may not");
            report = report with
            {
                Bytes = job.Copied,
                Requests = job.Requests,
                Maps = job.Maps,
                Reissued = job.Reissued,
                Invalidations = (mover?.Moves ?? 0) + (pressure?.Moves ?? 0),
                InvalidationsUnderLoad = (mover?.UnderLoad ?? 0) + (pressure?.MovesUnderLoad ?? 0),
                Evictions = pressure?.Evictions ?? 0,
                Restores = pressure?.Restores ?? 0,
                WorkingSet = pressure?.WorkingSet ?? 0,
                Placements = job.Placements,
            };
        });
        from.Put();
        to.Put();
        return report;
    }

    private static void Print(CopyReport report)
    {
        CommandOutput.Data($"copied        {report.Bytes} bytes in {report.Seconds:0.000} s, {report.BytesPerSecond / 1e6:0.0} MB/s");
        CommandOutput.Data($"requests      {report.Requests}, issued again {report.Reissued}");
        CommandOutput.Data($"maps          {report.Maps}");
        CommandOutput.Data($"invalidations {report.Invalidations}, under load {report.InvalidationsUnderLoad}");
        if (report.WorkingSet != 0)
            CommandOutput.Data($"pressure      {report.Evictions} evictions, {report.Restores} restores, working set {report.WorkingSet} bytes");
        foreach (PlacementReport placement in report.Placements)
            CommandOutput.Data($"placement     {placement.Device}: {placement.Kind}, {placement.Maps} maps: {placement.Reason}");
        CommandOutput.Data($"IOMMU         {report.IommuFaults} faults, {report.StaleAccesses} stale accesses");
        CommandOutput.Data($"source        sha256 {report.Sha256Source}");
        CommandOutput.Data($"destination   sha256 {report.Sha256Destination}");
        CommandOutput.Data(report.Ok ? "ok" : "FAILED");
    }
}
