using System.Text.RegularExpressions;

namespace DmaBufIo.Cli.Tests;

public sealed partial class StaleDriverTests
{
    [Theory]
    [InlineData("strict")]
    [InlineData("lazy")]
    [InlineData("passthrough")]
    public async Task F7_a_driver_that_goes_on_using_the_old_map_makes_the_run_fail_in_every_IOMMU_mode(string iommu)
    {
        using var folder = new WorkFolder();
        PluginFolders.CopyTo(folder["plugins"], except: "DmaBufIo.Importers.NvmePci");
        PluginFolders.CopyFolder(Path.Combine(AppContext.BaseDirectory, "fixtures", "StaleNvme"), folder["plugins/DmaBufIo.Fixtures.StaleNvme"]);
        CommandProcess.Result result = await CommandProcess.RunAsync(
            "copy", folder.Random("a", 8 << 20), folder["b"], "--via", "moving", "--invalidate-every", "20", "--block", "16K", "--buffer", "1M", "--iommu", iommu, "--plugins", folder["plugins"], "--json");
        Assert.Equal(1, result.ExitCode);
        Assert.False(result.Json.GetProperty("ok").GetBoolean());
        Assert.NotEqual(0, result.Json.GetProperty("staleAccesses").GetInt64());

        // Device, address, map and generation.
        Assert.Matches(Report(), result.Error);
        Assert.Contains("F7", result.Error, StringComparison.Ordinal);
    }

    [GeneratedRegex("error: .*nvme:.*0x[0-9a-f]+.*copy.*generation [0-9]+")]
    private static partial Regex Report();
}
