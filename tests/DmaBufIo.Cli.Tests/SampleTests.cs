using System.Diagnostics;

namespace DmaBufIo.Cli.Tests;

/// <summary>The samples run as their users would run them.</summary>
public sealed class SampleTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData((3 << 20) + 1234)]
    public async Task A_file_goes_from_storage_through_a_GPU_and_the_network_to_storage_and_the_CPU_copies_nothing(int size)
    {
        using var folder = new WorkFolder();
        string source = folder.Random("src", size);
        (int code, string output) = await RunAsync("StorageToNetwork", source, folder["dst"]);
        Assert.True(code == 0, output);
        Assert.Contains("copied by CPU   0 bytes", output, StringComparison.Ordinal);
        Assert.Contains("0 faults, 0 stale accesses", output, StringComparison.Ordinal);
        Assert.Equal(WorkFolder.Hash(source), WorkFolder.Hash(folder["dst"]));
    }

    [Fact]
    public async Task A_file_that_is_not_there_is_one_message()
    {
        using var folder = new WorkFolder();
        (int code, string output) = await RunAsync("StorageToNetwork", folder["absent"], folder["dst"]);
        Assert.Equal(1, code);
        Assert.StartsWith("error: ", output, StringComparison.Ordinal);
        Assert.Single(output.TrimEnd().Split('\n'));
        Assert.False(File.Exists(folder["dst"]));
    }

    private static async Task<(int Code, string Output)> RunAsync(string sample, params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "samples", sample, sample + ".dll"));
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        Task<string> error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, await output + await error);
    }
}
