using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Striped;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Importers.StackedRaid;

/// <summary>The plugin: sets of any block devices, nested to any depth.</summary>
public sealed class StackedRaidPlugin : IDmaBufIoPlugin
{
    private const string Degraded = "Write to a mirror without members that the others count on and that are lost for good; what is given in their place is overwritten";

    internal static string PluginName => "stacked-raid";

    /// <inheritdoc/>
    public PluginInfo Info { get; } = new(
        PluginName,
        typeof(StackedRaidPlugin).Assembly.GetName().Version ?? new Version(0, 0),
        "Sets of block devices: linear, RAID 0, RAID 1, RAID 10; registered buffers through one composite map",
        PluginKinds.Importer)
    {
        Words = ["linear", "raid0", "raid1", "raid10"],
        Options =
        [
            new PluginOption("raid0:CHUNK", "a power of two from 4K to 1G", "64K", "Bytes that lie together on one member"),
            new PluginOption("raid10:CHUNK", "a power of two from 4K to 1G", "64K", "Bytes that lie together on one mirror"),
            new PluginOption("raid1:degraded", "given or not", "not given", Degraded),
            new PluginOption("degraded", "on or off", "off", $"raid10: {Degraded}"),
            new PluginOption("copies", "2 to 16", "2", "raid10: how many copies there are of everything"),
        ],
    };

    /// <inheritdoc/>
    public void Register(IServiceCollection services, IConfiguration options)
    {
        services.AddSingleton<IBlockDeviceFactory, LinearFactory>();
        services.AddSingleton<IBlockDeviceFactory, Raid0Factory>();
        services.AddSingleton<IBlockDeviceFactory, Raid1Factory>();
        services.AddSingleton<IBlockDeviceFactory, Raid10Factory>();
    }
}
