using System.Text.Json;

namespace DmaBufIo.Cli.Tests;

public sealed class DevicesTests
{
    [Fact]
    public async Task A_network_card_is_listed_and_is_no_source_of_a_copy()
    {
        using var folder = new WorkFolder();
        CommandProcess.Result listed = await CommandProcess.RunAsync("devices", "rnic:left", "rnic:right,thread=off", "--json");
        Assert.True(listed.ExitCode == 0, listed.ToString());
        JsonElement[] cards = [.. listed.Json.GetProperty("rdmaDevices").EnumerateArray()];
        Assert.Equal(["left", "right"], cards.Select(static c => c.GetProperty("name").GetString()));
        CommandProcess.Result text = await CommandProcess.RunAsync("devices", "rnic:left");
        Assert.Contains("left: rnic:left\n  RDMA card", text.Output, StringComparison.Ordinal);
        Assert.Contains("rnic", (await CommandProcess.RunAsync("plugins")).Output, StringComparison.Ordinal);
        (await CommandProcess.RunAsync("copy", "rnic:left", folder["b"])).AssertRefused("left");
    }
}
