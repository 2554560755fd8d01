using System.Diagnostics;
using System.Globalization;

namespace DmaBufIo.Tests;

/// <summary>An application on the generic host, as a process, stopped as its users stop it.</summary>
public sealed class ApplicationTests
{
    [Theory]
    [InlineData("INT", "finish", "ok")]
    [InlineData("TERM", "finish", "ok")]
    [InlineData("INT", "hold", "ECANCELED")]
    public async Task Ctrl_C_ends_requests_devices_buffers_and_the_application_in_this_order(string signal, string ending, string status)
    {
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        string program = Path.Combine(PluginYard.FixtureFolder("DmaBufIo.Fixtures.App"), "DmaBufIo.Fixtures.App.dll");

        // What runs in the background of a shell inherits that it is deaf to SIGINT.
        using Process process = Process.Start(new ProcessStartInfo("env", ["--default-signal=INT", "dotnet", program, ending]) { RedirectStandardOutput = true })!;
        var lines = new List<string>();
        while (await process.StandardOutput.ReadLineAsync(cancellation) is string line)
        {
            lines.Add(line);
            if (line != "running")
                continue;
            using var kill = Process.Start("kill", [$"-{signal}", process.Id.ToString(CultureInfo.InvariantCulture)]);
            await kill.WaitForExitAsync(cancellation);
        }

        await process.WaitForExitAsync(cancellation);
        string all = string.Join('\n', lines);
        Assert.True(process.ExitCode == 0, all);
        Assert.True(lines.Count(l => l == $"request {status}") == 4, all);
        string[] order = ["Stopping waits for 4 requests", "Device disk closed", "Reference to buffer b0 dropped", "Stopped"];
        int[] places = [.. order.Select(text => lines.FindIndex(l => l.Contains(text, StringComparison.Ordinal)))];
        Assert.True(places.All(static p => p >= 0) && places.SequenceEqual(places.Order()), all);
        Assert.Equal("ended", lines[^1]);
    }
}
