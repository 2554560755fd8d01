using System.Security.Cryptography;

namespace DmaBufIo.Packages.Tests;

/// <summary>The samples, built from the packages in a folder of their own, tested, and run as their users would run them.</summary>
[Collection(YardCollection.Name)]
[Trait("Duration", "Minutes")]
public sealed class SampleTests(Yard yard)
{
    private static readonly string[] s_samples =
        [.. Directory.GetDirectories(Path.Combine(Build.RepositoryRoot, "samples")).Where(static d => Directory.GetFiles(d, "*.csproj").Length != 0).Select(static d => Path.GetFileName(d)).Order()];

    [Fact]
    public void Every_sample_is_in_the_solution_of_the_samples() =>
        Assert.All(s_samples, static s => Assert.Contains($"\"{s}/{s}.csproj\"", File.ReadAllText(Path.Combine(Build.RepositoryRoot, "samples", "Samples.slnx")), StringComparison.Ordinal));

    [Fact]
    public async Task Samples_build_from_the_packages_and_their_tests_are_green()
    {
        Result result = await TestAsync();

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
        await TestAsync();
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
        await TestAsync();
        string target = Path.Combine(yard.Root, "no-target");

        Result result = await RelayAsync(Path.Combine(yard.Root, "absent"), target);

        Assert.Equal(1, result.ExitCode);
        Assert.StartsWith("error: ", result.Output, StringComparison.Ordinal);
        Assert.Single(result.Output.TrimEnd().Split('\n'));
        Assert.False(File.Exists(target));
    }

    [Theory]
    [InlineData("soft")]
    [InlineData("hard")]
    [InlineData("")]
    public async Task A_destination_that_is_the_source_is_refused_also_through_links(string link)
    {
        await TestAsync();
        (string source, string target, byte[] bytes) = await SourceAndLinkAsync("relay", link);

        Result result = await RelayAsync(source, target);

        Assert.Equal(1, result.ExitCode);
        Assert.StartsWith($"error: DST {target} is the same file as SRC {source}", result.Output, StringComparison.Ordinal);
        await AssertUnharmedAsync(source, target, bytes, link);
    }

    [Fact]
    public async Task A_destination_that_is_a_link_stays_one()
    {
        await TestAsync();
        (string target, string link, _) = await SourceAndLinkAsync("linked", "soft");
        (string source, _, byte[] bytes) = await SourceAndLinkAsync("other", "");

        (await RelayAsync(source, link)).Succeeded();

        Assert.Equal(target, new FileInfo(link).LinkTarget);
        Assert.Equal(bytes, await File.ReadAllBytesAsync(target, TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData("soft")]
    [InlineData("hard")]
    [InlineData("")]
    public async Task A_host_does_not_copy_a_file_to_a_device_that_stands_on_it_also_through_links(string link)
    {
        await TestAsync();
        (string source, string target, byte[] bytes) = await SourceAndLinkAsync("host", link);
        Shell stranger = yard.Stranger("samples");

        Result result = await stranger.RunAsync(await HostAsync(source, target));

        // With plugins that nobody watches it is the only copy: the host does not wait for another one.
        Assert.Equal(1, result.ExitCode);
        result.Says($"'{target}' is the file that is copied, and writing to it would destroy it");
        await AssertUnharmedAsync(source, target, bytes, link);
    }

    [Theory]
    [InlineData("TERM")]
    [InlineData("INT")]
    public async Task A_host_that_is_told_to_end_in_the_middle_of_a_copy_ends_and_its_device_can_be_used_again(string signal)
    {
        await TestAsync();
        string source = await LargeAsync($"host-large-{signal}", 16L << 30);
        string disk = Path.Combine(yard.Root, $"host-disk-{signal}");
        await File.WriteAllBytesAsync(disk, new byte[1 << 20], TestContext.Current.CancellationToken);
        Shell stranger = yard.Stranger("samples");
        using Shell.Running host = stranger.StartInterruptible(await HostAsync(source, $"{disk},size=16G"));
        await HoldsAsync(host, () => disk);

        (await stranger.RunAsync(["kill", $"-{signal}", $"{host.Id}"])).Succeeded();
        Result result = await host.EndAsync();

        Assert.Equal(130, result.ExitCode);
        result.Says("Interrupted: the device holds the beginning of the file at most.");
        Assert.DoesNotContain("Copied ", result.Output, StringComparison.Ordinal);
        Assert.Equal(Beginning, await BeginningAsync(source));
        (string small, _, byte[] bytes) = await SourceAndLinkAsync($"host-small-{signal}", "");
        (await stranger.RunAsync(await HostAsync(small, disk))).Succeeded().Says($"Copied {bytes.Length} bytes.");
        Assert.Equal(bytes[..16], await BeginningAsync(disk));
    }

    [Theory]
    [InlineData("TERM")]
    [InlineData("INT")]
    public async Task A_relay_that_is_told_to_end_in_the_middle_leaves_the_destination_as_it_was_and_nothing_beside_it(string signal)
    {
        await TestAsync();
        string source = await LargeAsync($"relay-large-{signal}", 2L << 30);
        string folder = Directory.CreateDirectory(Path.Combine(yard.Root, $"relay-{signal}")).FullName;
        string target = Path.Combine(folder, "target");
        await File.WriteAllTextAsync(target, "before", TestContext.Current.CancellationToken);
        Shell stranger = yard.Stranger("samples");
        using Shell.Running relay = stranger.StartInterruptible(await RelayCommandAsync(source, target));
        await HoldsAsync(relay, () => Directory.GetFiles(folder, "target.*.partial").SingleOrDefault());

        (await stranger.RunAsync(["kill", $"-{signal}", $"{relay.Id}"])).Succeeded();
        Result result = await relay.EndAsync();

        Assert.Equal((130, "interrupted: DST is as it was"), (result.ExitCode, result.Output.TrimEnd()));
        Assert.Equal([target], Directory.GetFileSystemEntries(folder));
        Assert.Equal("before", await File.ReadAllTextAsync(target, TestContext.Current.CancellationToken));
        Assert.Equal(Beginning, await BeginningAsync(source));
    }

    [Fact]
    public async Task A_host_without_a_device_in_its_settings_says_so_and_ends()
    {
        await TestAsync();

        Result result = await yard.Stranger("samples").DotnetAsync(Output("FileToDisk", "FileToDisk.dll"), "--Copy:Device=");

        Assert.Equal(1, result.ExitCode);
        Assert.EndsWith("error: Copy: File, Device and Exporter are needed. Set them in appsettings.json.", result.Output.TrimEnd(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_host_takes_a_driver_while_it_runs_and_copies_with_it()
    {
        await TestAsync();
        string plugins = Directory.CreateDirectory(Path.Combine(yard.Root, "plugins")).FullName;
        Shell stranger = yard.Stranger("samples");
        using Shell.Running host = stranger.Start("dotnet", Output("FileToDisk", "FileToDisk.dll"), $"--DmaBufIo:PluginFolder={plugins}");
        await host.WritesAsync("Not copied: Topology: device expression: 'ramdisk' is not a known device");

        // Unpacked under a name that is passed over, then renamed into place.
        Yard.CopyFolder(Output("RamDisk.ContractTests", "plugins/RamDisk"), Path.Combine(plugins, ".RamDisk"));
        Directory.Move(Path.Combine(plugins, ".RamDisk"), Path.Combine(plugins, "RamDisk"));
        await host.WritesAsync($"Copied {new FileInfo(Output("FileToDisk", "appsettings.json")).Length} bytes.");

        (await stranger.RunAsync(["kill", "-TERM", $"{host.Id}"])).Succeeded();
        (await host.EndAsync()).Succeeded();
    }

    private string Output(string sample, string file) => Path.Combine(yard.Root, "samples", sample, "bin", "Debug", "net10.0", file);

    // A file, and another name of it; the same name without a kind of link.
    private async Task<(string Source, string Target, byte[] Bytes)> SourceAndLinkAsync(string name, string link)
    {
        string source = Path.Combine(yard.Root, $"{name}-source-{link}");
        string target = link.Length == 0 ? source : Path.Combine(yard.Root, $"{name}-{link}");
        byte[] bytes = RandomNumberGenerator.GetBytes(10_001);
        await File.WriteAllBytesAsync(source, bytes, TestContext.Current.CancellationToken);
        if (link == "soft")
            File.CreateSymbolicLink(target, source);
        else if (link == "hard")
            (await yard.Stranger("samples").RunAsync(["ln", source, target])).Succeeded();
        return (source, target, bytes);
    }

    private static async Task AssertUnharmedAsync(string source, string target, byte[] bytes, string link)
    {
        Assert.Equal(bytes, await File.ReadAllBytesAsync(source, TestContext.Current.CancellationToken));
        Assert.Equal(bytes, await File.ReadAllBytesAsync(target, TestContext.Current.CancellationToken));
        Assert.Equal(link == "soft" ? source : null, new FileInfo(target).LinkTarget);
        Assert.Empty(Directory.GetFiles(Path.GetDirectoryName(target)!, "*.partial"));
    }

    // Copies of those that the build of this project has built: others may be building more of them into the repository's folder.
    private Task<string> PluginsAsync() => yard.OnceAsync("plugins", () =>
    {
        string plugins = Path.Combine(yard.Root, "house plugins");
        foreach (string plugin in (string[])["DmaBufIo.Exporters.Gpu", "DmaBufIo.Importers.NvmePci", "DmaBufIo.Importers.Rnic", "DmaBufIo.Pci.Model"])
            Yard.CopyFolder(Path.Combine(Build.RepositoryRoot, "artifacts", "plugins", Build.Configuration, plugin), Path.Combine(plugins, plugin));
        return Task.FromResult(plugins);
    });

    private async Task<Result> RelayAsync(string source, string target) => await yard.Stranger("samples").RunAsync(await RelayCommandAsync(source, target));

    private async Task<string[]> RelayCommandAsync(string source, string target) =>
        ["env", $"DMABUFIO_PLUGINS={await PluginsAsync()}", "dotnet", Output("StorageToNetwork", "StorageToNetwork.dll"), source, target];

    // A host that copies a file to an NVMe device on another, once.
    private async Task<string[]> HostAsync(string source, string target) =>
        ["dotnet", Output("FileToDisk", "FileToDisk.dll"), $"--DmaBufIo:PluginFolder={await PluginsAsync()}", "--DmaBufIo:HotReload:EnableHotReload=false", $"--Copy:File={source}", $"--Copy:Device=nvme:{target}"];

    private static byte[] Beginning => [.. Enumerable.Range(1, 16).Select(static i => (byte)i)];

    // So large that no copy of it is over before a signal comes; it takes no room, but for its beginning.
    private async Task<string> LargeAsync(string name, long size)
    {
        string path = Path.Combine(yard.Root, name);
        await File.WriteAllBytesAsync(path, Beginning, TestContext.Current.CancellationToken);
        using FileStream file = File.OpenWrite(path);
        file.SetLength(size);
        return path;
    }

    private static async Task<byte[]> BeginningAsync(string path)
    {
        byte[] found = new byte[Beginning.Length];
        await using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        await file.ReadExactlyAsync(found, TestContext.Current.CancellationToken);
        return found;
    }

    /// <summary>Waits until the beginning has arrived, while most is still to come.</summary>
    private static Task HoldsAsync(Shell.Running copying, Func<string?> target) =>
        copying.DoesAsync(async () => target() is { } path && new FileInfo(path).Length >= Beginning.Length && (await BeginningAsync(path)).SequenceEqual(Beginning), "brought the beginning of its file");

    // Built and tested once; what is built is there also when a test of theirs fails.
    private Task<Result> TestAsync() => yard.OnceAsync("samples", async () =>
    {
        yard.CopySamples("samples", s_samples);
        Shell stranger = yard.Stranger("samples");
        (await stranger.DotnetAsync("build", "Samples.slnx")).Succeeded();
        return await stranger.DotnetAsync("test", "Samples.slnx", "--no-build");
    });
}
