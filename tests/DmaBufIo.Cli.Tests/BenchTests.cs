using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace DmaBufIo.Cli.Tests;

public sealed class BenchTests
{
    private const int Block = 4096;
    private const int Blocks = 256;

    [Theory]
    [InlineData("read", "strict", "draining", "--polling")]
    [InlineData("randread", "lazy", "fenced", "--interrupts")]
    public async Task Reads_leave_the_device_as_it_was_and_the_figures_agree(
        string rw, string iommu, string invalidation, string completion)
    {
        using var folder = new WorkFolder();
        string file = folder.Random("a", Block * Blocks);
        string hash = WorkFolder.Hash(file);
        JsonElement report = await MeasureAsync(
            "--device", file, "--rw", rw, "--requests", "1000", "--threads", "3", "--queue-depth", "5",
            "--iommu", iommu, "--invalidation", invalidation, completion);
        Assert.Equal(hash, WorkFolder.Hash(file));
        Assert.Equal(1000, report.GetProperty("requests").GetInt64());
        double seconds = report.GetProperty("seconds").GetDouble();
        Assert.Equal(1000 / seconds, report.GetProperty("iops").GetDouble(), 3);
        Assert.Equal(1000 * Block / seconds, report.GetProperty("bytesPerSecond").GetDouble(), 0);
        JsonElement latency = report.GetProperty("latencyNs");
        string[] names = ["min", "p50", "p90", "p99", "p999", "p9999", "max"];
        double[] ascending = [.. names.Select(n => latency.GetProperty(n).GetDouble())];
        Assert.Equal(ascending.Order(), ascending);
        Assert.True(ascending[0] > 0 && ascending[^1] <= seconds * 1e9, latency.ToString());
        Assert.InRange(latency.GetProperty("mean").GetDouble(), ascending[0], ascending[^1]);

        // Each of three rings has made its map, once; without a warm-up that is part of the measurement.
        Assert.Equal(3, report.GetProperty("maps").GetInt64());
    }

    [Theory]
    [InlineData("raid0:64K(null:16M,null:16M)", "4K", 1)]
    [InlineData("raid0:64K(null:16M,null:16M)", "128K", 2)]
    [InlineData("linear(raid0:32K(null:16M,null:16M),null:16M)", "32K", 1.5)]
    public async Task Requests_to_a_set_tell_what_each_of_their_children_costs(string device, string block, double children)
    {
        JsonElement report = await MeasureAsync("--device", device, "--block", block, "--rw", "read", "--requests", children == 1.5 ? "1536" : "1000");
        double parts = report.GetProperty("parts").GetInt64();
        long requests = report.GetProperty("requests").GetInt64();
        Assert.Equal(children == 1.5 ? (1024 * 2) + 512 : requests * children, parts); // two levels in the first 32 MiB, one in the last 16
        Assert.Equal(report.GetProperty("seconds").GetDouble() * 1e9 / parts, report.GetProperty("nsPerPart").GetDouble(), 3);
    }

    [Fact]
    public async Task Writes_one_after_the_other_write_every_block_once()
    {
        using var folder = new WorkFolder();
        string file = folder.Random("a", Block * Blocks);
        await MeasureAsync(
            "--device", file, "--overwrite", "--rw", "write", "--requests", $"{Blocks}",
            "--threads", "4", "--queue-depth", "3", "--buffer", "1M");
        Assert.Equal((0, Blocks), Sort(file, await OriginalAsync(), firstPlace: 0, places: 4 * 3));
    }

    [Theory]
    [InlineData("randwrite", 0, 8)]
    [InlineData("randrw:50", 8, 8)]
    public async Task Writes_anywhere_write_whole_blocks_of_their_own_and_leave_the_others_alone(string rw, int firstPlace, int places)
    {
        using var folder = new WorkFolder();
        string file = folder.Random("a", Block * Blocks);
        await MeasureAsync("--device", file, "--overwrite", "--rw", rw, "--requests", "200", "--queue-depth", "8", "--buffer", "1M");
        (int untouched, int written) = Sort(file, await OriginalAsync(), firstPlace, places);
        Assert.True(untouched > 0 && written > 0, $"{untouched} untouched, {written} written");
        Assert.Equal(Blocks, untouched + written);
    }

    [Fact]
    public async Task Nothing_is_written_to_a_device_that_keeps_it_unless_that_is_said()
    {
        using var folder = new WorkFolder();
        string file = folder.Random("a", Block * Blocks);
        string hash = WorkFolder.Hash(file);
        foreach (string rw in new[] { "write", "randwrite", "randrw:99" })
            (await RunAsync("--device", file, "--rw", rw, "--requests", "1")).AssertRefused("EINVAL", "--overwrite");
        Assert.Equal(hash, WorkFolder.Hash(file));
        await MeasureAsync("--device", "null:1M", "--rw", "randwrite", "--requests", "10");
    }

    [Theory]
    [InlineData("premapped", 0)]
    [InlineData("per-request", 1)]
    public async Task The_IOMMUs_work_per_request_is_exact(string mapping, double each)
    {
        using var folder = new WorkFolder();
        JsonElement report = await MeasureAsync(
            "--device", $"nvme:{folder.Random("a", Block * Blocks)},thread=off", "--warmup", "50ms", "--requests", "5000",
            "--via", "host", "--mapping", mapping);
        JsonElement iommu = report.GetProperty("iommuPerRequest");
        Assert.Equal(each, iommu.GetProperty("maps").GetDouble());
        Assert.Equal(each, iommu.GetProperty("unmaps").GetDouble());
        Assert.Equal(each, iommu.GetProperty("invalidations").GetDouble());
        Assert.True(iommu.TryGetProperty("walks", out _) && iommu.TryGetProperty("misses", out _));
        Assert.Equal(0, report.GetProperty("maps").GetInt64());
    }

    [Fact]
    public async Task A_buffer_that_moves_at_a_rate_is_invalidated_under_load_and_nothing_is_stale()
    {
        using var folder = new WorkFolder();
        JsonElement report = await MeasureAsync(
            "--device", folder.Random("a", Block * Blocks), "--via", "moving", "--invalidate-rate", "100",
            "--runtime", "1s", "--threads", "2", "--buffer", "1M");
        Assert.InRange(report.GetProperty("invalidations").GetInt64(), 1, 200);
        Assert.InRange(report.GetProperty("invalidationsUnderLoad").GetInt64(), 1, report.GetProperty("invalidations").GetInt64());
        Assert.True(report.GetProperty("maps").GetInt64() > 2);
        Assert.NotEqual(0, report.GetProperty("reissued").GetInt64());
    }

    [Fact]
    public async Task The_report_has_the_fields_that_others_rely_on()
    {
        JsonElement report = await MeasureAsync("--device", "null:1M", "--requests", "100");
        string[] fields =
        [
            "ok", "iops", "bytesPerSecond", "latencyNs", "cpuUse", "allocatedBytesPerRequest", "requests", "maps", "invalidations",
            "invalidationsUnderLoad", "reissued", "iommuFaults", "staleAccesses", "iommuPerRequest", "settings", "error",
        ];
        Assert.All(fields, field => Assert.True(report.TryGetProperty(field, out _), field));
        Assert.Equal("null device, same thread", report.GetProperty("label").GetString());
        JsonElement settings = report.GetProperty("settings");
        (string Name, string Value)[] echoed =
        [
            ("device", "null:1M"), ("via", "udmabuf"), ("rw", "randread"), ("block", "4096"), ("queueDepth", "32"), ("threads", "1"),
            ("iommu", "strict"), ("invalidation", "draining"), ("mapping", "premapped"), ("completion", "polling"), ("buffer", "16777216"),
        ];
        Assert.All(echoed, setting => Assert.Equal(setting.Value, settings.GetProperty(setting.Name).ToString()));
    }

    [Fact]
    public async Task F7_a_driver_that_goes_on_using_the_old_map_makes_the_benchmark_fail()
    {
        using var folder = new WorkFolder();
        PluginFolders.CopyTo(folder["plugins"], except: "DmaBufIo.Importers.NvmePci");
        PluginFolders.CopyFolder(
            Path.Combine(AppContext.BaseDirectory, "fixtures", "StaleNvme"), folder["plugins/DmaBufIo.Fixtures.StaleNvme"]);
        CommandProcess.Result result = await CommandProcess.RunAsync(
            "bench", "--device", folder.Random("a", Block * Blocks), "--via", "moving", "--invalidate-rate", "200",
            "--warmup", "0", "--runtime", "1s", "--buffer", "1M", "--plugins", folder["plugins"], "--json");
        Assert.Equal(1, result.ExitCode);
        Assert.False(result.Json.GetProperty("ok").GetBoolean());
        Assert.NotEqual(0, result.Json.GetProperty("staleAccesses").GetInt64() + result.Json.GetProperty("iommuFaults").GetInt64());
        Assert.DoesNotContain("   at ", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("0", true)]
    [InlineData("60s", false)]
    public async Task Ctrl_C_ends_the_run_and_what_was_measured_is_printed(string warmup, bool measured)
    {
        using var folder = new WorkFolder();
        using Process process = CommandProcess.Start(
            ["bench", "--device", folder.Sparse("a", 1 << 20), "--warmup", warmup, "--runtime", "600s", "--json"]);

        // More than a start takes by far: it must have got to its requests.
        long started = Environment.TickCount64;
        while (process.TotalProcessorTime < TimeSpan.FromSeconds(5) && !process.HasExited)
        {
            Assert.True(Environment.TickCount64 - started < 120_000, "the command does not work");
            await Task.Delay(20, TestContext.Current.CancellationToken);
            process.Refresh();
        }

        using (var kill = Process.Start("kill", ["-INT", process.Id.ToString(CultureInfo.InvariantCulture)]))
            await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
        CommandProcess.Result result = await CommandProcess.FinishAsync(process);
        Assert.True(result.ExitCode == 130, result.ToString());
        Assert.True(result.Json.GetProperty("interrupted").GetBoolean());
        Assert.Equal(measured, result.Json.GetProperty("ok").GetBoolean());
        Assert.Equal(measured, result.Json.GetProperty("requests").GetInt64() > 0);
        Assert.Equal(measured ? JsonValueKind.Null : JsonValueKind.Object, result.Json.GetProperty("error").ValueKind);
    }

    [Theory]
    [InlineData("--block", "1000", "multiple of 512")]
    [InlineData("--block", "0", "multiple of 512")]
    [InlineData("--block", "x", "not a size")]
    [InlineData("--block", "8M", "--buffer")]
    [InlineData("--buffer", "1000", "page size")]
    [InlineData("--buffer", "64K", "131072")]
    [InlineData("--queue-depth", "0", "out of range")]
    [InlineData("--queue-depth", "5000", "out of range")]
    [InlineData("--threads", "0", "out of range")]
    [InlineData("--threads", "70", "out of range")]
    [InlineData("--rw", "scribble", "randrw:PERCENT")]
    [InlineData("--rw", "randrw:101", "randrw:PERCENT")]
    [InlineData("--rw", "randrw:", "randrw:PERCENT")]
    [InlineData("--runtime", "0", "no time")]
    [InlineData("--runtime", "soon", "500ms")]
    [InlineData("--warmup", "-1s", "500ms")]
    [InlineData("--requests", "0", "not positive")]
    [InlineData("--iommu", "loose", "strict, lazy, passthrough")]
    [InlineData("--invalidation", "never", "draining, fenced")]
    [InlineData("--mapping", "twice", "premapped, per-request")]
    [InlineData("--invalidate-rate", "10", "never moves")]
    [InlineData("--invalidate-rate", "-1", "out of range")]
    [InlineData("--via", "teleport", "udmabuf")]
    [InlineData("--frobnicate", "1", "--frobnicate")]
    public async Task An_option_that_makes_no_sense_is_refused_with_what_would(string option, string value, string fragment) =>
        (await RunAsync("--device", "null:1M", option, value)).AssertRefused(fragment);

    [Fact]
    public async Task A_missing_device_a_missing_file_and_two_ways_of_waiting_are_refused()
    {
        using var folder = new WorkFolder();
        (await CommandProcess.RunAsync("bench")).AssertRefused("--device", "null:1G");
        (await RunAsync("--device", folder["none"])).AssertRefused("ENOENT", folder["none"]);
        (await RunAsync("--device", "null:1M", "--block", "2M", "--queue-depth", "1")).AssertRefused("does not fit");
        (await RunAsync("--device", "null:1M", "--polling", "--interrupts")).AssertRefused("--polling");
        (await RunAsync("--device", "null:1M", "--interrupts")).AssertRefused("EOPNOTSUPP", "no interrupts");
        (await RunAsync("--device", "null:1M", "--via", "moving", "--mapping", "per-request")).AssertRefused("EOPNOTSUPP", "may move");
        string file = folder.Random("a", Block);
        (await RunAsync("--device", $"nvme:{file},ro=on", "--rw", "write", "--overwrite")).AssertRefused("EROFS");
    }

    [Fact]
    public async Task With_json_a_failure_is_an_object_too()
    {
        using var folder = new WorkFolder();
        foreach (string device in new[] { folder["none"], "frob0(a)" })
        {
            CommandProcess.Result result = await CommandProcess.RunAsync("bench", "--device", device, "--json");
            result.AssertRefused();
            Assert.False(result.Json.GetProperty("ok").GetBoolean());
            Assert.NotEqual("", result.Json.GetProperty("error").GetProperty("errno").GetString());
        }

        CommandProcess.Result option = await CommandProcess.RunAsync("bench", "--device", "null:1M", "--rw", "x", "--json");
        Assert.Equal("EINVAL", option.Json.GetProperty("error").GetProperty("errno").GetString());
    }

    private static Task<CommandProcess.Result> RunAsync(params string[] arguments) => CommandProcess.RunAsync(["bench", .. arguments]);

    private static async Task<JsonElement> MeasureAsync(params string[] arguments)
    {
        string[] warmup = arguments.Contains("--warmup") ? [] : ["--warmup", "0"];
        CommandProcess.Result result = await CommandProcess.RunAsync(["bench", .. arguments, .. warmup, "--json"]);
        Assert.True(result.ExitCode == 0, result.ToString());
        JsonElement report = result.Json;
        Assert.True(report.GetProperty("ok").GetBoolean());
        Assert.Equal((0L, 0L), (report.GetProperty("iommuFaults").GetInt64(), report.GetProperty("staleAccesses").GetInt64()));
        return report;
    }

    private static async Task<byte[]> OriginalAsync()
    {
        using var folder = new WorkFolder();
        return await File.ReadAllBytesAsync(folder.Random("a", Block * Blocks), TestContext.Current.CancellationToken);
    }

    /// <summary>
    /// Counts the blocks that are as they were and those that hold, whole, what one of the places of the buffer was filled with; any other
    /// fails.
    /// </summary>
    private static (int Untouched, int Written) Sort(string file, byte[] original, int firstPlace, int places)
    {
        byte[] now = File.ReadAllBytes(file);
        Assert.Equal(original.Length, now.Length);
        int untouched = 0;
        int written = 0;
        for (int block = 0; block < Blocks; block++)
        {
            ReadOnlySpan<byte> bytes = now.AsSpan(block * Block, Block);
            if (bytes.SequenceEqual(original.AsSpan(block * Block, Block)))
                untouched++;
            else if (IsPlace(MemoryMarshal.Cast<byte, ulong>(bytes), firstPlace, places))
                written++;
            else
                Assert.Fail($"block {block} is neither what it was nor what was written");
        }

        return (untouched, written);
    }

    private static bool IsPlace(ReadOnlySpan<ulong> words, int firstPlace, int places)
    {
        for (int place = firstPlace; place < firstPlace + places; place++)
        {
            bool same = true;
            for (int i = 0; i < words.Length && same; i++)
                same = words[i] == 0x9E3779B97F4A7C15UL * (ulong)((place * Block) + (i * sizeof(ulong)) + 1);
            if (same)
                return true;
        }

        return false;
    }
}
