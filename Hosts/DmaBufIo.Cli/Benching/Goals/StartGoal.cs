using System.ComponentModel;
using System.Diagnostics;
using System.Text.Json;
using DmaBufIo.Errors;

namespace DmaBufIo.Cli.Benching.Goals;

/// <summary>Goal 7: from the start of the command to its first completed request, each time in a process of its own.</summary>
internal sealed class StartGoal : BenchGoal
{
    private const string How = "dmabufio bench --requests 1 on a file, as a process of its own; by the system's monotonic clock, "
        + "which both processes read";

    private const int LeastRuns = 5;

    internal override int Number => 7;

    internal override string Title => "command to first completed I/O";

    internal override async Task<IReadOnlyList<GoalResult>> RunAsync(GoalContext context)
    {
        string device = context.FileDevice(1 << 20);
        var first = new List<double>();
        var whole = new List<double>();
        for (int run = 0; run < Math.Max(LeastRuns, context.Runs); run++)
        {
            context.Say($"start {run + 1}");
            long begun = Stopwatch.GetTimestamp();
            long completed = await StartAsync(context, device);
            whole.Add(Stopwatch.GetElapsedTime(begun).TotalSeconds);
            first.Add((completed - (begun * 1e9 / Stopwatch.Frequency)) / 1e9);
        }

        return
        [
            Judge("to the first completed I/O", first, "s", GoalBound.AtMost, 0.5, How, "new process, files in the system's cache"),
            Report("to the end of the process", whole, "s", How),
        ];
    }

    private static async Task<long> StartAsync(GoalContext context, string device)
    {
        string self = Environment.ProcessPath ?? throw Failed("the name of this program is unknown");
        var start = new ProcessStartInfo(self) { RedirectStandardOutput = true, RedirectStandardError = true };
        if (Path.GetFileNameWithoutExtension(self) == "dotnet")
            start.ArgumentList.Add(typeof(StartGoal).Assembly.Location);
        string[] arguments = ["bench", "--device", device, "--requests", "1", "--queue-depth", "1", "--warmup", "0", "--json"];
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        if (context.Common.PluginFolder is { } plugins)
        {
            start.ArgumentList.Add("--plugins");
            start.ArgumentList.Add(plugins);
        }

        try
        {
            using Process process = Process.Start(start) ?? throw Failed("no process was started");
            Task<string> output = process.StandardOutput.ReadToEndAsync(context.Cancellation);
            Task<string> error = process.StandardError.ReadToEndAsync(context.Cancellation);
            await process.WaitForExitAsync(context.Cancellation);
            if (process.ExitCode != 0)
                throw Failed($"it ended with {process.ExitCode}: {(await error).Trim()}");
            using JsonDocument report = JsonDocument.Parse(await output);
            return report.RootElement.GetProperty("firstCompletionNs").GetInt64();
        }
        catch (Exception e) when (e is Win32Exception or JsonException or KeyNotFoundException)
        {
            throw Failed(e.Message.TrimEnd('.'));
        }
    }

    private static DmaBufIoException Failed(string problem) =>
        new(Errno.EIO, "bench", "a process of goal 7", problem, "Run 'dmabufio bench --requests 1' by hand");
}
