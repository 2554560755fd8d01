namespace DmaBufIo.Packages.Tests;

/// <summary>The packages look after the projects that reference them.</summary>
[Collection(YardCollection.Name)]
public sealed class PluginProjectTests(Yard yard)
{
    [Fact]
    public async Task A_plugin_that_is_not_laid_out_for_loading_is_an_error_that_names_the_property()
    {
        Shell stranger = Driver("no-loading", ("    <EnableDynamicLoading>true</EnableDynamicLoading>\n", ""));

        (await stranger.DotnetAsync("build", "RamDisk")).Failed().Says("error DMABUFIO001: RamDisk references DmaBufIo.Core and is a library").Says("<EnableDynamicLoading>true</EnableDynamicLoading>");
        (await stranger.DotnetAsync("build", "RamDisk", "--no-restore", "-p:IsDmaBufIoPlugin=false")).Succeeded();
    }

    [Fact]
    public async Task A_plugin_that_would_bring_its_own_Core_is_an_error_that_names_the_remedy()
    {
        Shell stranger = Driver("own-core", (" ExcludeAssets=\"runtime\"", ""));

        (await stranger.DotnetAsync("build", "RamDisk")).Failed().Says("error DMABUFIO002: The plugin RamDisk would bring its own copy of DmaBufIo.Core").Says("ExcludeAssets=\"runtime\"");
    }

    [Fact]
    public async Task A_plugin_under_test_lies_beside_its_tests_as_it_is_now_and_without_what_the_host_brings()
    {
        Shell stranger = Driver("beside");
        Yard.CopyFolder(Path.Combine(Build.RepositoryRoot, "samples", "RamDisk.ContractTests"), Path.Combine(stranger.Folder, "RamDisk.ContractTests"));
        string project = Path.Combine(stranger.Folder, "RamDisk", "RamDisk.csproj");
        string made = Path.Combine(stranger.Folder, "RamDisk.ContractTests", "bin", "Debug", "net10.0", "plugins", "RamDisk");
        string data = Path.Combine(stranger.Folder, "RamDisk", "firmware.bin");

        // Nobody has restored or built the plugin before.
        await BuildAsync([]);
        Assert.Equal(["RamDisk.deps.json", "RamDisk.dll", "RamDisk.pdb"], Names());

        // A file that comes, in a folder below.
        await File.WriteAllTextAsync(data, "one", TestContext.Current.CancellationToken);
        string before = await File.ReadAllTextAsync(project, TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(project, before.Replace("</Project>", "<ItemGroup><None Update=\"firmware.bin\" CopyToOutputDirectory=\"PreserveNewest\" TargetPath=\"data/firmware.bin\" /></ItemGroup></Project>", StringComparison.Ordinal), TestContext.Current.CancellationToken);
        await BuildAsync(["--no-restore"]);
        Assert.Equal(["RamDisk.deps.json", "RamDisk.dll", "RamDisk.pdb", "data/firmware.bin"], Names());

        // That changes, while the assembly does not.
        await File.WriteAllTextAsync(data, "two", TestContext.Current.CancellationToken);
        await BuildAsync(["--no-restore"]);
        Assert.Equal("two", await File.ReadAllTextAsync(Path.Combine(made, "data", "firmware.bin"), TestContext.Current.CancellationToken));

        // And goes.
        File.Delete(data);
        await File.WriteAllTextAsync(project, before, TestContext.Current.CancellationToken);
        await BuildAsync(["--no-restore"]);
        Assert.Equal(["RamDisk.deps.json", "RamDisk.dll", "RamDisk.pdb"], Names());

        string[] Names() => [.. Directory.GetFiles(made, "*", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(made, f)).Order(StringComparer.Ordinal)];

        async Task BuildAsync(string[] more) => (await stranger.DotnetAsync(["build", "RamDisk.ContractTests", "-p:RunAnalyzers=false", .. more])).Succeeded();
    }

    private Shell Driver(string folder, params ReadOnlySpan<(string From, string To)> changes)
    {
        Shell stranger = yard.StrangerWithFeed(folder);
        yard.CopySamples(folder, "RamDisk");
        string project = Path.Combine(stranger.Folder, "RamDisk", "RamDisk.csproj");
        string text = File.ReadAllText(project);
        foreach ((string from, string to) in changes)
        {
            Assert.Contains(from, text, StringComparison.Ordinal);
            text = text.Replace(from, to, StringComparison.Ordinal);
        }

        File.WriteAllText(project, text);
        return stranger;
    }
}
