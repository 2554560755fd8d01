using DmaBufIo.Cli.Commands;

namespace DmaBufIo.Cli.Benching.Goals;

/// <summary>
/// One goal of performance: measures itself and says whether it is met. Add an object to <see cref="All"/> to add a goal.
/// </summary>
internal abstract class BenchGoal
{
    /// <summary>The goals that can be measured, in their order.</summary>
    internal static IReadOnlyList<BenchGoal> All { get; } =
    [
        new PathGoal(), new MinimalGoal(), new MappingGoal(), new ScaleGoal(), new FlatGoal(), new InvalidationGoal(), new StartGoal(),
    ];

    /// <summary>The goal's number.</summary>
    internal abstract int Number { get; }

    /// <summary>The goal in a few words.</summary>
    internal abstract string Title { get; }

    /// <summary>Measures. A failure is thrown, as by any command.</summary>
    /// <param name="context">How thoroughly, and where.</param>
    /// <returns>One result or more.</returns>
    internal abstract Task<IReadOnlyList<GoalResult>> RunAsync(GoalContext context);

    /// <summary>A result without a target.</summary>
    /// <param name="what">What was measured.</param>
    /// <param name="values">One value per run, at least one.</param>
    /// <param name="unit">Their unit.</param>
    /// <param name="how">How it was measured.</param>
    /// <param name="note">What must be said with it.</param>
    protected GoalResult Report(string what, IEnumerable<double> values, string unit, string how, string? note = null) =>
        GoalResult.From(this, what, [.. values], unit, GoalBound.None, null, how, note);

    /// <summary>A result whose median should stand to a target as said.</summary>
    /// <param name="what">What was measured.</param>
    /// <param name="values">One value per run, at least one.</param>
    /// <param name="unit">Their unit.</param>
    /// <param name="bound">How the median, or with <see cref="GoalBound.Exactly"/> each value, should stand to the target.</param>
    /// <param name="target">The target.</param>
    /// <param name="how">How it was measured.</param>
    /// <param name="note">What must be said with it.</param>
    protected GoalResult Judge(
        string what, IEnumerable<double> values, string unit, GoalBound bound, double target, string how, string? note = null) =>
        GoalResult.From(this, what, [.. values], unit, bound, target, how, note);
}

/// <summary>How goals are measured.</summary>
internal sealed class GoalContext
{
    /// <summary>Plugin folder and log.</summary>
    internal required CommonSettings Common { get; init; }

    /// <summary>
    /// How often each measurement is repeated; results are the median, and their spread is from the least to the greatest.
    /// </summary>
    internal required int Runs { get; init; }

    /// <summary>How long one measurement takes.</summary>
    internal required TimeSpan Runtime { get; init; }

    /// <summary>How long requests run before it.</summary>
    internal required TimeSpan Warmup { get; init; }

    /// <summary>An empty folder for files of the measurement; removed afterwards.</summary>
    internal required string Folder { get; init; }

    /// <summary>Tells people what is being done.</summary>
    internal required Action<string> Say { get; init; }

    /// <summary>Ends it early.</summary>
    internal required CancellationToken Cancellation { get; init; }

    /// <summary>Makes a sparse file of the measurement and names it as a device.</summary>
    /// <param name="size">Bytes.</param>
    /// <param name="options">Of the device, for example ",thread=off".</param>
    internal string FileDevice(long size, string options = "")
    {
        string path = Path.Combine(Folder, "device.img");
        using (FileStream file = File.Create(path))
            file.SetLength(size);
        return $"nvme:\"{path}\"{options}";
    }

    /// <summary>Runs a benchmark whose failure is the goal's.</summary>
    internal async Task<BenchReport> MeasureAsync(BenchSettings settings)
    {
        BenchReport report = await BenchRun.MeasureAsync(
            settings with { Runtime = Runtime, Warmup = Warmup }, Common, new LiveLine(isShown: false), Cancellation);
        if (report.Interrupted)
            throw new OperationCanceledException();
        if (!report.Ok)
            throw new Errors.DmaBufIoException(
                Errors.Errno.EIO, "bench", "a measurement of the goal", report.Error?.Problem ?? (report.Requests == 0 ? "no request completed in the time that was given" : "a device did something it may not"),
                "See the messages before this one");
        return report;
    }
}
