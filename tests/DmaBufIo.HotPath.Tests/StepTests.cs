using System.Globalization;

namespace DmaBufIo.HotPath.Tests;

public sealed class StepTests
{
    private const long Requests = 10_000;
    private static readonly Dictionary<string, string> s_environment = [];

    // Everything in Sync that may block, wake, or make another thread work.
    private static readonly string[] s_notOnTheWay = ["Lock", "Unlock", "Wait", "Wake", "GateKill", "Barrier", "Publish", "QueueWork"];

    [Fact]
    public async Task T6_ten_thousand_requests_take_no_primitive_of_Sync_but_their_map_reference()
    {
        Dictionary<string, long> steps = await CountAsync("still");
        foreach (string kind in s_notOnTheWay)
            Assert.True(steps[kind] == 0, $"{steps[kind]} steps {kind} in {Requests} requests");

        // The counter counts: references were taken and dropped, for several requests at a time.
        Assert.True(steps["GateEnter"] > 0 && steps["GateExit"] > 0 && steps["Ownership"] > 0, "no step was counted at all");
    }

    [Fact]
    public async Task An_invalidation_between_the_requests_shows_in_the_same_count()
    {
        Dictionary<string, long> steps = await CountAsync("moves");
        foreach (string kind in s_notOnTheWay)
            Assert.True(steps[kind] > 0, $"no step {kind} was counted");
    }

    private static async Task<Dictionary<string, long>> CountAsync(string moves) =>
        (await Workload.RunAsync(s_environment, "steps", moves)).Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(static l => l.Split(' ')).ToDictionary(static p => p[0], static p => long.Parse(p[1], CultureInfo.InvariantCulture));
}
