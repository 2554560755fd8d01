using System.Diagnostics;
using System.Globalization;

namespace DmaBufIo.Cli.Tests;

public sealed class InterruptTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Ctrl_C_drains_releases_and_removes_the_unfinished_destination_unless_told_to_keep_it(bool keep)
    {
        using var folder = new WorkFolder();
        string source = folder.Sparse("a", 512 << 20);
        using Process process = CommandProcess.Start(
            ["copy", source, folder["b"], "--via", "moving", "--invalidate-every", "20", "--block", "4K", "--queue-depth", "4", "--buffer", "64K", .. keep ? ["--keep-partial"] : Array.Empty<string>()]);

        // The first line of progress says that the copy is in its middle.
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        string? line = await process.StandardError.ReadLineAsync(cancellation);
        Assert.Contains("10 %", line, StringComparison.Ordinal);
        using (var kill = Process.Start("kill", ["-INT", process.Id.ToString(CultureInfo.InvariantCulture)]))
            await kill.WaitForExitAsync(cancellation);
        CommandProcess.Result result = await CommandProcess.FinishAsync(process);
        Assert.True(result.ExitCode == 130, result.ToString());
        Assert.Contains("interrupted", result.Error, StringComparison.Ordinal);
        Assert.Equal(keep, File.Exists(folder["b"]));
        Assert.Equal(keep ? 2 : 1, Directory.GetFiles(folder["."]).Length);
    }
}
