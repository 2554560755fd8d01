using System.Text.Json;

namespace DmaBufIo.Cli.Tests;

/// <summary>Copies through the memory of a GPU.</summary>
public sealed class PressureTests
{
    [Fact]
    public async Task A_copy_through_a_GPU_whose_memory_is_pressed_is_exact_and_tells_what_was_moved()
    {
        using var folder = new WorkFolder();
        string source = folder.Random("src", (96 << 20) + 1234);
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", source, folder["dst"], "--via", "gpu:vram=8M", "--buffer", "2M", "--block", "64K", "--pressure", "--iommu", "strict", "--json");
        Assert.True(result.ExitCode == 0, result.Error + result.Output);
        JsonElement report = JsonDocument.Parse(result.Output).RootElement;
        Assert.Equal(WorkFolder.Hash(source), WorkFolder.Hash(folder["dst"]));
        Assert.Equal((0, 0), (report.GetProperty("iommuFaults").GetInt64(), report.GetProperty("staleAccesses").GetInt64()));
        Assert.Equal(3 * (8 << 20), report.GetProperty("workingSet").GetInt64());

        // Making what the others need evicts so much already. How often the copy's own buffer moves while it is in use depends on the machine.
        Assert.True(report.GetProperty("evictions").GetInt64() > 200, result.Output);
        Assert.InRange(report.GetProperty("invalidationsUnderLoad").GetInt64(), 0, report.GetProperty("invalidations").GetInt64());
        Assert.Contains(report.GetProperty("placements").EnumerateArray(), static p => p.GetProperty("kind").GetString() == "PeerToPeer");
    }

    [Fact]
    public async Task A_device_that_does_not_reach_the_GPU_is_given_main_memory_and_the_report_says_why()
    {
        using var folder = new WorkFolder();
        string source = folder.Random("src", 1 << 20);
        CommandProcess.Result result = await CommandProcess.RunAsync(
            "copy", $"nvme:{source},slot=hb0+noforward/rp2", folder["dst"], "--via", "gpu:vram=64M,slot=hb0+noforward/rp1", "--json");
        Assert.True(result.ExitCode == 0, result.Error + result.Output);
        JsonElement[] placements = [.. JsonDocument.Parse(result.Output).RootElement.GetProperty("placements").EnumerateArray()];
        Assert.NotEmpty(placements);
        Assert.All(placements, static p => Assert.Equal("SystemMemory", p.GetProperty("kind").GetString()));
        Assert.Contains(placements, static p => p.GetProperty("reason").GetString()!.Contains("host bridge hb0 does not forward them", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("udmabuf", "exporter 'udmabuf' has no memory that can be short")]
    [InlineData("gpu:vram=16M", "not enough for the buffer and those of others")]
    [InlineData("gpu:vram=8M", "there is no room for 16777216 bytes in the GPU's memory")]
    [InlineData("gpu:vram=1M,slot=rp0", "the root port is missing")]
    public async Task What_cannot_be_pressed_is_refused_and_nothing_is_left_behind(string exporter, string problem)
    {
        using var folder = new WorkFolder();
        string source = folder.Random("src", 100_000);
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", source, folder["dst"], "--via", exporter, "--pressure");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains(problem, result.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(folder["dst"]));
    }
}
