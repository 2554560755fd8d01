using System.Text.Json;

namespace DmaBufIo.Cli.Tests;

public sealed class CopyTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(511)]
    [InlineData(512)]
    [InlineData(4097)]
    [InlineData((5 << 20) + 1234)]
    public async Task A_file_of_any_size_arrives_exactly(int size)
    {
        using var folder = new WorkFolder();
        string source = folder.Random("a", size);
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", source, folder["b"], "--json");
        Assert.True(result.ExitCode == 0, result.ToString());
        JsonElement report = result.Json;
        Assert.True(report.GetProperty("ok").GetBoolean());
        Assert.Equal(size, report.GetProperty("bytes").GetInt64());
        Assert.Equal(size, new FileInfo(folder["b"]).Length);
        Assert.Equal(WorkFolder.Hash(source), WorkFolder.Hash(folder["b"]));
        Assert.Equal(WorkFolder.Hash(source), report.GetProperty("sha256Source").GetString());
        Assert.Equal(WorkFolder.Hash(source), report.GetProperty("sha256Destination").GetString());
    }

    [Theory]
    [InlineData("512", "strict", "draining", "4K")]
    [InlineData("4096", "strict", "fenced", "128K")]
    [InlineData("512", "lazy", "draining", "128K")]
    [InlineData("4096", "lazy", "fenced", "1M")]
    [InlineData("512", "passthrough", "fenced", "4K")]
    [InlineData("4096", "passthrough", "draining", "1M")]
    public async Task A_buffer_that_moves_under_load_loses_nothing(string lba, string iommu, string invalidation, string block)
    {
        using var folder = new WorkFolder();
        string source = folder.Random("a", (8 << 20) + 1234);
        CommandProcess.Result result = await CommandProcess.RunAsync(
            "copy", source, folder["b"], "--via", "moving", "--invalidate-every", block == "1M" ? "2" : "20", "--buffer", "4M", "--lba", lba, "--iommu", iommu, "--invalidation", invalidation, "--block", block, "--json");
        Assert.True(result.ExitCode == 0, result.ToString());
        JsonElement report = result.Json;
        Assert.Equal(0, report.GetProperty("iommuFaults").GetInt64());
        Assert.Equal(0, report.GetProperty("staleAccesses").GetInt64());
        Assert.NotEqual(0, report.GetProperty("invalidations").GetInt64());
        Assert.NotEqual(0, report.GetProperty("requests").GetInt64());
        Assert.True(report.GetProperty("maps").GetInt64() > 2);
        Assert.Equal(WorkFolder.Hash(source), WorkFolder.Hash(folder["b"]));
    }

    [Fact]
    public async Task The_report_has_the_fields_that_others_rely_on()
    {
        using var folder = new WorkFolder();
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", folder.Random("a", 100_000), folder["b"], "--json");
        string[] fields = ["ok", "bytes", "seconds", "requests", "maps", "invalidations", "invalidationsUnderLoad", "reissued", "iommuFaults", "staleAccesses", "sha256Source", "sha256Destination"];
        Assert.All(fields, field => Assert.True(result.Json.TryGetProperty(field, out _), field));
    }

    [Fact]
    public async Task An_existing_destination_is_replaced_also_when_it_was_longer()
    {
        using var folder = new WorkFolder();
        string source = folder.Random("a", 1000);
        folder.Random("b", 100_000, seed: 2);
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", source, folder["b"]);
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Contains("\nok\n", result.Output, StringComparison.Ordinal);
        Assert.Equal(WorkFolder.Hash(source), WorkFolder.Hash(folder["b"]));
    }

    [Fact]
    public async Task Progress_goes_to_standard_error_in_plain_lines_when_it_is_redirected()
    {
        using var folder = new WorkFolder();
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", folder.Random("a", 20 << 20), folder["b"]);
        Assert.Contains("100 % (20971520 of 20971520 bytes)", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("%", result.Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("lba=4096,mdts=8K", "lba=512,mdts=0,thread=off")]
    [InlineData("lba=512,thread=off", "lba=4096,mdts=16K")]
    public async Task Devices_may_differ_in_their_blocks_and_limits(string from, string to)
    {
        using var folder = new WorkFolder();
        string source = folder.Random("a", (3 << 20) + 77);
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", $"nvme:{source},{from}", $"nvme:{folder["b"]},{to}", "--block", "64K");
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Equal(WorkFolder.Hash(source), WorkFolder.Hash(folder["b"]));
    }
}
