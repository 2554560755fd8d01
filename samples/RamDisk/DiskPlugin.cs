using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace RamDisk;

/// <summary>The plugin: disks in memory, by the word <c>ramdisk:SIZE</c>.</summary>
public sealed class DiskPlugin : IDmaBufIoPlugin
{
    public PluginInfo Info { get; } = new("ramdisk", new Version(1, 0), "Disks in memory", PluginKinds.Importer) { Words = ["ramdisk"] };

    public void Register(IServiceCollection services, IConfiguration options) => services.AddSingleton<IBlockDeviceFactory, DiskFactory>();
}

/// <summary>Makes the disks.</summary>
internal sealed class DiskFactory(IDmaFabric fabric) : IBlockDeviceFactory
{
    private int _made;

    public string Word => "ramdisk";

    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        expression.AllowOnly();
        if (members.Count != 0)
            throw expression.Broken(expression.Members[0].Position, "the disk stands on no other device", "Remove the parentheses");
        if (!DeviceExpression.TryParseSize(expression.Text ?? "", out long size) || size <= 0 || size % 4096 != 0)
            throw expression.Broken(expression.Position, $"'{expression.Text}' is not a size in whole pages", "Write for example ramdisk:64M");
        return new Disk(fabric, $"ramdisk{Interlocked.Increment(ref _made) - 1}", size);
    }
}
