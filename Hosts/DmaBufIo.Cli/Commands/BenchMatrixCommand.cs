using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using DmaBufIo.Cli.Benching;
using DmaBufIo.Cli.Benching.Goals;
using DmaBufIo.Cli.Output;
using DmaBufIo.Errors;

namespace DmaBufIo.Cli.Commands;

/// <summary><c>bench matrix</c>: measures the goals and prints each with its value, its target and its spread.</summary>
internal static class BenchMatrixCommand
{
    internal static Command Create()
    {
        string known = string.Join(", ", BenchGoal.All.Select(static g => $"{g.Number} ({g.Title})"));
        var goal = new Option<int[]>("--goal") { Description = $"Measure only this one; can be repeated. Known: {known}" };
        var runs = new Option<int>("--runs")
        {
            Description = "How often each measurement is repeated: its median counts",
            DefaultValueFactory = static _ => 3,
        };
        var runtime = Seconds("--runtime", "How long one measurement takes");
        var warmup = Seconds("--warmup", "How long requests run before it");
        var command = new Command("matrix", "Measures the goals of performance: value, target, spread; exit code 0 when all are met")
        {
            goal, runs, runtime, warmup,
        };
        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction((parsed, _) => CommandGuard.RunAsync(common.Read(parsed).Json, () =>
        {
            int repeats = parsed.GetValue(runs);
            if (repeats is < 1 or > 1000)
                throw BenchSettings.Refused("--runs", $"{repeats} is out of range", "Give 1 to 1000");
            return RunAsync(
                Choose(parsed.GetValue(goal) ?? []),
                common.Read(parsed),
                repeats,
                BenchSettings.Time("--runtime", parsed.GetRequiredValue(runtime)),
                BenchSettings.Time("--warmup", parsed.GetRequiredValue(warmup)));
        }));
        return command;
    }

    private static Option<string> Seconds(string name, string description) =>
        new(name) { Description = description, DefaultValueFactory = static _ => "1s" };

    private static IReadOnlyList<BenchGoal> Choose(int[] numbers)
    {
        foreach (int number in numbers)
        {
            if (!BenchGoal.All.Any(g => g.Number == number))
                throw BenchSettings.Refused(
                    "--goal", $"there is no goal {number} that can be measured",
                    $"Give one of {string.Join(", ", BenchGoal.All.Select(static g => g.Number))}");
        }

        return [.. BenchGoal.All.Where(g => numbers.Length == 0 || numbers.Contains(g.Number))];
    }

    private static async Task<int> RunAsync(
        IReadOnlyList<BenchGoal> goals, CommonSettings common, int runs, TimeSpan runtime, TimeSpan warmup)
    {
        if (runtime <= TimeSpan.Zero)
            throw BenchSettings.Refused("--runtime", "nothing can be measured in no time", "Give for example --runtime 1s");
        if (warmup <= TimeSpan.Zero)
            throw BenchSettings.Refused(
                "--warmup", "without a warm-up the making of the first map would be measured", "Give for example --warmup 1s");
        using var cancel = new CancellationTokenSource();
        void Stop(PosixSignalContext signal)
        {
            // Between two measurements there is no host to take it.
            signal.Cancel = true;
            cancel.Cancel();
        }

        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        var results = new List<GoalResult>();
        bool interrupted = false;
        foreach (BenchGoal goal in goals)
        {
            IReadOnlyList<GoalResult>? measured = await MeasureAsync(goal, common, runs, runtime, warmup, cancel.Token);
            interrupted = measured is null;
            if (interrupted)
                break;
            results.AddRange(measured!);
            if (!common.Json)
                Print(goal, measured!);
        }

        var report = new MatrixReport(
            !interrupted && results.TrueForAll(static r => r.Ok), interrupted, runs, Environment.ProcessorCount, results);
        if (common.Json)
            CommandOutput.Json(report);
        else if (!interrupted || Short(results).Any())
            CommandOutput.Data(report.Ok ? "ok" : $"FALLS SHORT: {string.Join("; ", Short(results))}");
        if (interrupted)
            CommandOutput.Message("interrupted");
        return interrupted ? CommandOutput.Interrupted : report.Ok ? CommandOutput.Success : CommandOutput.Failure;
    }

    private static IEnumerable<string> Short(IEnumerable<GoalResult> results) =>
        results.Where(static r => !r.Ok).Select(static r => $"{r.Goal} {r.What}");

    /// <summary>Measures one goal in a folder of its own.</summary>
    /// <returns>Its results; null when it was interrupted.</returns>
    private static async Task<IReadOnlyList<GoalResult>?> MeasureAsync(
        BenchGoal goal, CommonSettings common, int runs, TimeSpan runtime, TimeSpan warmup, CancellationToken cancellationToken)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("dmabufio-goal-");
        try
        {
            return await goal.RunAsync(new GoalContext
            {
                Common = common,
                Runs = runs,
                Runtime = runtime,
                Warmup = warmup,
                Folder = folder.FullName,
                Say = text =>
                {
                    if (!common.Json || common.Verbose)
                        CommandOutput.Message($"goal {goal.Number}: {text}");
                },
                Cancellation = cancellationToken,
            });
        }
        catch (OperationCanceledException)
        {
            return null;
        }
        catch (DmaBufIoException e)
        {
            // The other goals can still be measured.
            CommandOutput.Error(e);
            return [GoalResult.Failed(goal, e.Message)];
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static void Print(BenchGoal goal, IReadOnlyList<GoalResult> results)
    {
        CommandOutput.Data($"goal {goal.Number}: {goal.Title}");
        foreach (GoalResult result in results)
        {
            string target = result.Bound switch
            {
                GoalBound.AtMost => $"<= {Number(result.Target!.Value)}",
                GoalBound.AtLeast => $">= {Number(result.Target!.Value)}",
                GoalBound.Exactly => $"= {Number(result.Target!.Value)}",
                _ => "",
            };
            string verdict = result.Ok ? result.Bound == GoalBound.None ? "" : "ok" : "FALLS SHORT";
            string measured = $"{Number(result.Measured),12} {result.Unit,-14} {target,-10} spread {Number(result.Spread),-10}";
            CommandOutput.Data($"  {result.What,-58} {measured} {verdict,-11} {result.Note}".TrimEnd());
        }

        foreach (string how in results.Select(static r => r.How).Distinct())
            CommandOutput.Data($"  how: {how}");
    }

    private static string Number(double value) => value.ToString(Math.Abs(value) >= 1000 ? "#,0" : "0.####", CultureInfo.InvariantCulture);
}
