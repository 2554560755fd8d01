using System.Security.Cryptography;

namespace DmaBufIo.Packages.Tests;

/// <summary>The samples, built from the packages in a folder of their own, tested, and run as their users would run them.</summary>
[Collection(YardCollection.Name)]
public sealed class SampleTests(Yard yard)
{
    private static readonly string[] s_samples =
        [.. Directory.GetDirectories(Path.Combine(Build.RepositoryRoot, "samples")).Where(static d => Directory.GetFiles(d, "*.csproj").Length != 0).Select(static d => Path.GetFileName(d)).Order()];

    private static Task? s_built;

    [Fact]
    public void Every_sample_is_in_the_solution_of_the_samples() =>
        Assert.All(s_samples, static s => Assert.Contains($"\"{s}/{s}.csproj\"", File.ReadAllText(Path.Combine(Build.RepositoryRoot, "samples", "Samples.slnx")), StringComparison.Ordinal));

    [Fact]
    public async Task Samples_build_from_the_packages_and_their_tests_are_green()
    {
        await BuildAsync();

        Result result = await yard.Stranger("samples").DotnetAsync("test", "Samples.slnx", "--no-build");

        result.Succeeded();
        foreach (string tests in s_samples.Where(static s => s.EndsWith("Tests", StringComparison.Ordinal)))
            Assert.Matches($@"Passed!.* - {tests}\.dll", result.Output);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData((3 << 20) + 1234)]
    public async Task A_file_goes_from_storage_through_a_GPU_and_the_network_to_storage_and_the_CPU_copies_nothing(int size)
    {
        await BuildAsync();
        string source = Path.Combine(yard.Root, $"source{size}");
        byte[] bytes = RandomNumberGenerator.GetBytes(size);
        await File.WriteAllBytesAsync(source, bytes, TestContext.Current.CancellationToken);
        string target = Path.Combine(yard.Root, $"target{size}");

        Result result = await RelayAsync(source, target);

        result.Succeeded().Says("copied by CPU   0 bytes").Says("0 faults, 0 stale accesses");
        Assert.Equal(bytes, await File.ReadAllBytesAsync(target, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task A_file_that_is_not_there_is_one_message()
    {
        await BuildAsync();
        string target = Path.Combine(yard.Root, "no-target");

        Result result = await RelayAsync(Path.Combine(yard.Root, "absent"), target);

        Assert.Equal(1, result.ExitCode);
        Assert.StartsWith("error: ", result.Output, StringComparison.Ordinal);
        Assert.Single(result.Output.TrimEnd().Split('\n'));
        Assert.False(File.Exists(target));
    }

    [Fact]
    public async Task A_host_takes_a_driver_while_it_runs_and_copies_with_it()
    {
        await BuildAsync();
        string plugins = Directory.CreateDirectory(Path.Combine(yard.Root, "plugins")).FullName;
        Shell stranger = yard.Stranger("samples");
        using Shell.Running host = stranger.Start("dotnet", Output("FileToDisk", "FileToDisk.dll"), $"--DmaBufIo:PluginFolder={plugins}");
        await host.WritesAsync("Not copied: Topology: device expression: 'nvme' is not a known device");

        Yard.CopyFolder(Output("RamDisk.ContractTests", "plugins/RamDisk"), Path.Combine(plugins, "RamDisk"));
        (await stranger.RunAsync(["kill", "-HUP", $"{host.Id}"])).Succeeded();
        await host.WritesAsync($"Copied {new FileInfo(Output("FileToDisk", "appsettings.json")).Length} bytes.");

        (await stranger.RunAsync(["kill", "-TERM", $"{host.Id}"])).Succeeded();
        (await host.EndAsync()).Succeeded();
    }

    private string Output(string sample, string file) => Path.Combine(yard.Root, "samples", sample, "bin", "Debug", "net10.0", file);

    private Task<Result> RelayAsync(string source, string target)
    {
        string plugins = Path.Combine(Build.RepositoryRoot, "artifacts", "plugins", Build.Configuration);
        return yard.Stranger("samples").RunAsync(["env", $"DMABUFIO_PLUGINS={plugins}", "dotnet", Output("StorageToNetwork", "StorageToNetwork.dll"), source, target]);
    }

    private Task BuildAsync() => s_built ??= BuildNowAsync();

    private async Task BuildNowAsync()
    {
        yard.CopySamples("samples", s_samples);
        (await yard.Stranger("samples").DotnetAsync("build", "Samples.slnx")).Succeeded();
    }
}
