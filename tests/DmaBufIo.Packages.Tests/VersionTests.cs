namespace DmaBufIo.Packages.Tests;

/// <summary>A plugin built from the packages of one version in a host built from those of another.</summary>
[Collection(YardCollection.Name)]
[Trait("Duration", "Minutes")]
public sealed class VersionTests(Yard yard)
{
    [Theory]
    [InlineData("0.1.0", "0.1.0", "Loaded: RAM disk of 1048576 bytes")]
    [InlineData("0.1.0", "0.2.0", "Loaded: RAM disk of 1048576 bytes")]
    [InlineData("0.2.0", "0.1.0", "Refused: RamDisk.dll was built against DmaBufIo.Core 0.2.0.0, and this host has 0.1.0.0. Update the host to DmaBufIo.Core 0.2.0.0 or newer")]
    [InlineData("0.1.0", "1.0.0", "Refused: RamDisk.dll was built against DmaBufIo.Core 0.1.0.0, which is incompatible with this host's 1.0.0.0. Build the plugin against DmaBufIo.Core 1.x")]
    public async Task A_plugin_loads_in_a_host_that_is_as_new_and_of_its_major_version_and_else_is_refused_with_the_reason(string plugin, string host, string says)
    {
        await yard.PackOthersAsync();
        Shell stranger = yard.StrangerWithFeed("versions");
        if (!Directory.Exists(Path.Combine(stranger.Folder, "RamDisk")))
        {
            yard.CopySamples("versions", "RamDisk");
            WriteHost(Directory.CreateDirectory(Path.Combine(stranger.Folder, "Lister")).FullName);
        }

        string pluginFolder = await BuildAsync(stranger, "RamDisk", plugin);
        string hostFolder = await BuildAsync(stranger, "Lister", host);

        (await stranger.DotnetAsync(Path.Combine(hostFolder, "Lister.dll"), pluginFolder)).Succeeded().Says(says);
    }

    // Built once per version, into a folder of its own that bears the name of the plugin.
    private async Task<string> BuildAsync(Shell stranger, string project, string version)
    {
        string folder = Path.Combine(yard.Root, "built", version, project);
        if (!Directory.Exists(folder))
            (await stranger.DotnetAsync("build", project, "-p:RunAnalyzers=false", $"-p:DmaBufIoVersion={version}", "-o", folder)).Succeeded();
        return folder;
    }

    private static void WriteHost(string folder)
    {
        File.WriteAllText(Path.Combine(folder, "Lister.csproj"), """
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
              </PropertyGroup>
              <ItemGroup>
                <PackageReference Include="DmaBufIo.Hosting" />
                <PackageReference Include="DmaBufIo.Models" />
              </ItemGroup>
            </Project>
            """);
        File.WriteAllText(Path.Combine(folder, "Program.cs"), """
            using DmaBufIo.Hosting;
            using DmaBufIo.Models.Iommu;

            using var iommu = new ModelIommu();
            using DmaBufIoHost host = DmaBufIoHost.Create(new DmaBufIoOptions { LoadPluginFolder = false }.UseFabric(iommu));
            PluginStatus status = host.Plugins.Load(args[0]);
            string found = status.Reason ?? "";
            if (status.State == PluginState.Loaded)
            {
                using OpenedDevice device = host.Open("ramdisk:1M");
                found = device.BlockDevice.Description;
            }

            Console.WriteLine($"{status.State}: {found}");
            """);
    }
}
