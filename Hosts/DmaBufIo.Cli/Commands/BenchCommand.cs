using System.CommandLine;
using DmaBufIo.Cli.Benching;
using DmaBufIo.Cli.Output;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Cli.Commands;

/// <summary><c>bench</c>: measures what requests cost. <c>bench matrix</c> measures the goals.</summary>
internal static class BenchCommand
{
    internal static Command Create()
    {
        var device = new Option<string?>("--device")
        {
            Description = "A file, or a device expression, for example null:1G (nothing is moved: the cost of software alone)",
        };
        var via = Text(
            "--via", "udmabuf",
            "Who owns the buffer: an exporter, for example udmabuf or moving; or host: plain memory of the application");
        var rw = Text("--rw", "randread", "read, write, randread, randwrite or randrw:PERCENT (of reads)");
        var block = Text("--block", "4K", "Bytes per request, whole logical blocks");
        var queueDepth = Number("--queue-depth", 32, "Requests in flight per thread");
        var threads = Number("--threads", 1, "Threads, each with a ring and a device queue of its own");
        var runtime = Text("--runtime", "5s", "How long is measured: 2s, 500ms; a number alone is seconds");
        var warmup = Text("--warmup", "2s", "How long requests run before that, unmeasured; below 1s code is not yet compiled for speed");
        var requests = new Option<long?>("--requests") { Description = "End the measurement after so many requests" };
        var iommu = Text("--iommu", "strict", "The modelled IOMMU: strict, lazy or passthrough");
        var invalidation = Text("--invalidation", "draining", "How an invalidation waits for requests: draining or fenced");
        var mapping = Text(
            "--mapping", "premapped", "premapped: once, at the registration; per-request: mapped and unmapped by each request");
        var rate = new Option<double>("--invalidate-rate")
        {
            Description = "Moves of the buffer per second; needs an exporter that moves; 0 is none",
        };
        var polling = new Option<bool>("--polling") { Description = "Look for completions without sleeping (the default)" };
        var interrupts = new Option<bool>("--interrupts") { Description = "Sleep until the device interrupts" };
        var buffer = Text("--buffer", "16M", "Size of the buffer, whole pages");
        var overwrite = new Option<bool>("--overwrite") { Description = "Allow writes to a device that keeps them: its contents are lost" };
        var compare = new Option<string[]>("--compare")
        {
            Description = "Compare two results that --json has printed: A.json B.json",
            Arity = new ArgumentArity(2, 2),
            AllowMultipleArgumentsPerToken = true,
        };
        var command = new Command("bench", "Measures what requests cost: IOPS, bandwidth, latency, allocations, IOMMU work")
        {
            device, via, rw, block, queueDepth, threads, runtime, warmup, requests, iommu, invalidation, mapping, rate, polling, interrupts,
            buffer, overwrite, compare,
            BenchMatrixCommand.Create(),
        };
        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction((parsed, _) => CommandGuard.RunAsync(common.Read(parsed).Json, () =>
        {
            CommonSettings all = common.Read(parsed);
            if (parsed.GetValue(compare) is { Length: 2 } files)
                return Task.FromResult(BenchComparison.Run(files[0], files[1], all.Json));
            if (parsed.GetValue(polling) && parsed.GetValue(interrupts))
                throw BenchSettings.Refused("--interrupts", "--polling was given as well", "Give one of the two");
            BenchSettings settings = new BenchSettings
            {
                Device = parsed.GetValue(device) ?? throw BenchSettings.Refused(
                    "--device", "no device was given", "Give for example --device null:1G or --device FILE"),
                Exporter = parsed.GetRequiredValue(via),
                Pattern = AccessPattern.Parse(parsed.GetRequiredValue(rw)),
                Block = BenchSettings.Size("--block", parsed.GetRequiredValue(block)),
                QueueDepth = parsed.GetValue(queueDepth),
                Threads = parsed.GetValue(threads),
                Runtime = BenchSettings.Time("--runtime", parsed.GetRequiredValue(runtime)),
                Warmup = BenchSettings.Time("--warmup", parsed.GetRequiredValue(warmup)),
                Requests = parsed.GetValue(requests),
                Iommu = BenchSettings.Choice(
                    "--iommu", parsed.GetRequiredValue(iommu), ("strict", IommuMode.Strict), ("lazy", IommuMode.Lazy),
                    ("passthrough", IommuMode.Passthrough)),
                Invalidation = BenchSettings.Choice(
                    "--invalidation", parsed.GetRequiredValue(invalidation), ("draining", InvalidationDesign.Draining),
                    ("fenced", InvalidationDesign.Fenced)),
                Mapping = BenchSettings.Choice(
                    "--mapping", parsed.GetRequiredValue(mapping), ("premapped", BufferMapping.Premapped),
                    ("per-request", BufferMapping.PerRequest)),
                InvalidateRate = parsed.GetValue(rate),
                Completion = parsed.GetValue(interrupts) ? CompletionMode.Interrupts : CompletionMode.Polling,
                Buffer = BenchSettings.Size("--buffer", parsed.GetRequiredValue(buffer)),
                Overwrite = parsed.GetValue(overwrite),
            }.Validate();
            return RunAsync(settings, all);
        }));
        return command;
    }

    private static Option<string> Text(string name, string fallback, string description) =>
        new(name) { Description = description, DefaultValueFactory = _ => fallback };

    private static Option<int> Number(string name, int fallback, string description) =>
        new(name) { Description = description, DefaultValueFactory = _ => fallback };

    private static async Task<int> RunAsync(BenchSettings settings, CommonSettings common)
    {
        BenchReport report = await BenchRun.MeasureAsync(settings, common, LiveLine.For(quiet: common.Json && !common.Verbose));
        if (report is { Ok: false, Error: null })
            CommandOutput.Message("error: a device did something it may not: the figures are not to be trusted");
        if (common.Json)
            CommandOutput.Json(report);
        else if (report.Error is null)
            BenchText.Print(report);
        return report.Interrupted ? CommandOutput.Interrupted : report.Ok ? CommandOutput.Success : CommandOutput.Failure;
    }
}
