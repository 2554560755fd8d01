using System.Text.Json;

namespace DmaBufIo.Cli.Tests;

public sealed class BenchCompareTests
{
    [Fact]
    public async Task Two_results_are_compared_figure_by_figure()
    {
        using var folder = new WorkFolder();
        string first = await ResultAsync(folder, "a.json", "16");
        string second = folder["b.json"];

        // The second is the first with figures that are known.
        string text = await File.ReadAllTextAsync(first, TestContext.Current.CancellationToken);
        using (JsonDocument a = JsonDocument.Parse(text))
        {
            double iops = a.RootElement.GetProperty("iops").GetDouble();
            double max = a.RootElement.GetProperty("latencyNs").GetProperty("max").GetDouble();
            text = Replace(text, "iops", iops * 2);
            text = Replace(text, "max", max * 1.5);
            text = Replace(text, "queueDepth", 17);
        }

        await File.WriteAllTextAsync(second, text, TestContext.Current.CancellationToken);
        CommandProcess.Result result = await CommandProcess.RunAsync("bench", "--compare", first, second, "--json");
        Assert.True(result.ExitCode == 0, result.ToString());
        Dictionary<string, JsonElement> figures = result.Json.GetProperty("figures").EnumerateArray().ToDictionary(
            static f => f.GetProperty("name").GetString()!);
        Assert.Equal((2.0, "better"), (figures["iops"].GetProperty("ratio").GetDouble(), figures["iops"].GetProperty("mark").GetString()));
        Assert.Equal("worse", figures["latencyNs.max"].GetProperty("mark").GetString());
        Assert.Equal(1.5, figures["latencyNs.max"].GetProperty("ratio").GetDouble(), 9);
        Assert.Equal(
            (1.0, JsonValueKind.Null),
            (figures["latencyNs.p50"].GetProperty("ratio").GetDouble(), figures["latencyNs.p50"].GetProperty("mark").ValueKind));
        JsonElement setting = Assert.Single(result.Json.GetProperty("settings").EnumerateArray());
        Assert.Equal(
            ("queueDepth", "16", "17"),
            (setting.GetProperty("name").GetString(), setting.GetProperty("a").GetString(), setting.GetProperty("b").GetString()));

        CommandProcess.Result people = await CommandProcess.RunAsync("bench", "--compare", first, second);
        Assert.Equal(0, people.ExitCode);
        Assert.Matches(@"iops +[\d,.]+ +[\d,.]+ +2\.000 better", people.Output);
        Assert.Contains("setting queueDepth: 16 | 17", people.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Files_that_are_no_results_are_refused_by_name()
    {
        using var folder = new WorkFolder();
        string good = await ResultAsync(folder, "a.json", "1");
        string text = await File.ReadAllTextAsync(good, TestContext.Current.CancellationToken);
        (string Name, string Content, string Fragment)[] bad =
        [
            ("broken", "{ \"iops\": ", "no JSON"),
            ("empty", "", "no JSON"),
            ("list", "[1, 2]", "no result of a benchmark"),
            ("other", "{ \"ok\": true, \"bytes\": 1 }", "iops"),
            ("words", text.Replace("\"p50\": ", "\"p50\": \"fast\", \"x\": ", StringComparison.Ordinal), "latencyNs.p50"),
            ("binary", "\0\0\0", "no JSON"),
        ];
        foreach ((string name, string content, string fragment) in bad)
        {
            await File.WriteAllTextAsync(folder[name], content, TestContext.Current.CancellationToken);
            (await CommandProcess.RunAsync("bench", "--compare", good, folder[name])).AssertRefused("EINVAL", folder[name], fragment);
        }

        (await CommandProcess.RunAsync("bench", "--compare", folder["none"], good)).AssertRefused("ENOENT", folder["none"]);
        (await CommandProcess.RunAsync("bench", "--compare", good, folder["."])).AssertRefused("EINVAL", "not a regular file");
        (await CommandProcess.RunAsync("bench", "--compare", good)).AssertRefused("--compare");
        CommandProcess.Result json = await CommandProcess.RunAsync("bench", "--compare", good, folder["other"], "--json");
        Assert.Equal("EINVAL", json.Json.GetProperty("error").GetProperty("errno").GetString());
    }

    private static async Task<string> ResultAsync(WorkFolder folder, string name, string depth)
    {
        CommandProcess.Result result = await CommandProcess.RunAsync(
            "bench", "--device", "null:1M", "--requests", "100", "--warmup", "0", "--queue-depth", depth, "--json");
        Assert.True(result.ExitCode == 0, result.ToString());
        await File.WriteAllTextAsync(folder[name], result.Output, TestContext.Current.CancellationToken);
        return folder[name];
    }

    private static string Replace(string text, string name, double value) => System.Text.RegularExpressions.Regex.Replace(
        text, $"\"{name}\": [^,\n]+", FormattableString.Invariant($"\"{name}\": {value:R}"));
}
