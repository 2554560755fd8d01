using System.Text.Json;

namespace DmaBufIo.Cli.Tests;

public sealed class BenchMatrixTests
{
    [Fact]
    public async Task Goal_3_counts_are_exact_in_all_modes_and_mappings()
    {
        IReadOnlyList<JsonElement> results = await MeasureAsync("3", "--runtime", "300ms", "--warmup", "50ms");
        List<JsonElement> exact = [.. results.Where(static r => r.GetProperty("bound").GetString() == "Exactly")];
        Assert.True(exact.Count >= 3 * 2 * 3, $"{exact.Count} exact counts: {string.Join("; ", results.Select(static r => r.GetProperty("note")))}");
        Assert.All(exact, static r => Assert.True(r.GetProperty("ok").GetBoolean(), r.ToString()));
        foreach (string mode in new[] { "strict", "lazy", "passthrough" })
        {
            Assert.Equal((0d, 1d), (Value(results, $"{mode}, premapped: maps"), Value(results, $"{mode}, per-request: maps")));
            Assert.True(Value(results, $"{mode}: premapped over per-request") > 0);
        }

        Assert.Equal(1, Value(results, "strict, per-request: acknowledged invalidations"));
        Assert.Equal(0, Value(results, "lazy, per-request: acknowledged invalidations"));
    }

    [Fact]
    public async Task Goal_6_is_measured_with_percentiles_and_the_cost_of_a_new_map()
    {
        IReadOnlyList<JsonElement> results = await MeasureAsync("6");
        foreach (string owner in new[] { "owner idle", "owner submitting" })
        {
            double[] ascending = [.. new[] { "p50", "p90", "p99", "max" }.Select(p => Value(results, $"{owner}: {p}"))];
            Assert.Equal(ascending.Order(), ascending);
            Assert.Equal(20, results.First(r => r.GetProperty("what").GetString() == $"{owner}: p50").GetProperty("target").GetDouble());
        }

        Assert.True(Value(results, "re-map with 1024 extents") > Value(results, "re-map with 1 extents"));
        Assert.True(Value(results, "re-map, per extent") > 0);
    }

    [Fact]
    public async Task Goal_7_is_the_time_of_a_process_of_its_own()
    {
        IReadOnlyList<JsonElement> results = await MeasureAsync("7");
        double first = Value(results, "to the first completed I/O");
        Assert.True(first > 0 && first < Value(results, "to the end of the process"), $"{first} s");
    }

    [Fact]
    public async Task Wrong_options_are_refused()
    {
        (await CommandProcess.RunAsync("bench", "matrix", "--goal", "99")).AssertRefused("--goal", "3");
        (await CommandProcess.RunAsync("bench", "matrix", "--runs", "0")).AssertRefused("--runs");
        (await CommandProcess.RunAsync("bench", "matrix", "--runtime", "0")).AssertRefused("--runtime");
        (await CommandProcess.RunAsync("bench", "matrix", "--warmup", "0")).AssertRefused("--warmup");
        CommandProcess.Result json = await CommandProcess.RunAsync("bench", "matrix", "--goal", "99", "--json");
        Assert.Equal("EINVAL", json.Json.GetProperty("error").GetProperty("errno").GetString());
    }

    [Fact]
    public async Task A_goal_that_cannot_be_measured_is_named_with_the_reason_and_falls_short()
    {
        using var folder = new WorkFolder();
        Directory.CreateDirectory(folder["plugins"]);
        CommandProcess.Result result = await CommandProcess.RunAsync(
            "bench", "matrix", "--goal", "3", "--runs", "1", "--plugins", folder["plugins"], "--json");
        Assert.Equal(1, result.ExitCode);
        JsonElement goal = Assert.Single(result.Json.GetProperty("goals").EnumerateArray());
        Assert.False(goal.GetProperty("ok").GetBoolean());
        Assert.NotEqual("", goal.GetProperty("note").GetString());
    }

    private static async Task<IReadOnlyList<JsonElement>> MeasureAsync(string goal, params string[] arguments)
    {
        CommandProcess.Result result = await CommandProcess.RunAsync(
            ["bench", "matrix", "--goal", goal, "--runs", "1", .. arguments, "--json"]);
        JsonElement[] results = [.. result.Json.GetProperty("goals").EnumerateArray()];
        Assert.NotEmpty(results);
        foreach (JsonElement measured in results)
        {
            Assert.Equal(int.Parse(goal, System.Globalization.CultureInfo.InvariantCulture), measured.GetProperty("goal").GetInt32());
            Assert.All(
                ["measured", "target", "ok", "spread", "note", "unit", "how"],
                field => Assert.True(measured.TryGetProperty(field, out _), field));
        }

        // Whether a goal is met depends on the machine; that the exit code says so does not.
        bool met = Array.TrueForAll(results, static r => r.GetProperty("ok").GetBoolean());
        Assert.Equal(met ? 0 : 1, result.ExitCode);
        Assert.Equal(met, result.Json.GetProperty("ok").GetBoolean());
        return results;
    }

    private static double Value(IEnumerable<JsonElement> results, string what) =>
        results.First(r => r.GetProperty("what").GetString() == what).GetProperty("measured").GetDouble();
}
