using System.Text.Json.Serialization;

namespace DmaBufIo.Cli.Benching.Goals;

/// <summary>How a measured value stands to its target.</summary>
internal enum GoalBound
{
    /// <summary>There is no target: the value is reported.</summary>
    None,

    /// <summary>At most the target.</summary>
    AtMost,

    /// <summary>At least the target.</summary>
    AtLeast,

    /// <summary>Exactly the target, in every run.</summary>
    Exactly,
}

/// <summary>One measured value of a goal.</summary>
internal sealed record GoalResult
{
    /// <summary>The goal's number.</summary>
    public required int Goal { get; init; }

    /// <summary>What was measured, in a few words.</summary>
    public required string What { get; init; }

    /// <summary>The value: the median of the runs.</summary>
    public required double Measured { get; init; }

    /// <summary>Of the value, the target and the spread.</summary>
    public required string Unit { get; init; }

    /// <summary>What it should be; null when it is only reported.</summary>
    public double? Target { get; init; }

    /// <summary>How the value should stand to the target.</summary>
    [JsonConverter(typeof(JsonStringEnumConverter<GoalBound>))]
    public GoalBound Bound { get; init; }

    /// <summary>It is met, or there is no target.</summary>
    public required bool Ok { get; init; }

    /// <summary>The greatest value of the runs less the least.</summary>
    public double Spread { get; init; }

    /// <summary>How it was measured.</summary>
    public required string How { get; init; }

    /// <summary>What must be said with it, or null.</summary>
    public string? Note { get; init; }

    /// <summary>A result from the values of several runs.</summary>
    /// <param name="goal">The goal.</param>
    /// <param name="what">What was measured.</param>
    /// <param name="values">One value per run, at least one.</param>
    /// <param name="unit">Their unit.</param>
    /// <param name="bound">How the median, or with <see cref="GoalBound.Exactly"/> each of them, should stand to the target.</param>
    /// <param name="target">The target; null without one.</param>
    /// <param name="how">How it was measured.</param>
    /// <param name="note">What must be said with it.</param>
    internal static GoalResult From(
        BenchGoal goal, string what, IReadOnlyList<double> values, string unit, GoalBound bound, double? target, string how,
        string? note = null)
    {
        double[] sorted = [.. values.Order()];
        int half = sorted.Length / 2;
        double median = sorted.Length % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
        return new GoalResult
        {
            Goal = goal.Number,
            What = what,
            Measured = median,
            Unit = unit,
            Target = target,
            Bound = bound,
            Ok = bound switch
            {
                GoalBound.AtMost => median <= target,
                GoalBound.AtLeast => median >= target,
                GoalBound.Exactly => Array.TrueForAll(sorted, v => v == target),
                _ => true,
            },
            Spread = sorted[^1] - sorted[0],
            How = how,
            Note = note,
        };
    }

    /// <summary>A goal that could not be measured.</summary>
    /// <param name="goal">The goal.</param>
    /// <param name="reason">Why.</param>
    internal static GoalResult Failed(BenchGoal goal, string reason) => new()
    {
        Goal = goal.Number,
        What = goal.Title,
        Measured = 0,
        Unit = "",
        Ok = false,
        How = "it could not be measured",
        Note = reason,
    };
}

/// <summary>What <c>bench matrix --json</c> prints.</summary>
/// <param name="Ok">Every goal that was measured is met.</param>
/// <param name="Interrupted">It was ended before all were measured.</param>
/// <param name="Runs">How often each was measured.</param>
/// <param name="Cores">Processors of the machine.</param>
/// <param name="Goals">The results.</param>
internal sealed record MatrixReport(bool Ok, bool Interrupted, int Runs, int Cores, IReadOnlyList<GoalResult> Goals);
