using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace FileToDisk.Tests;

/// <summary>Disks on strings for the tests, as a plugin that is built in: the word <c>testdisk</c>.</summary>
public sealed class TestDisks : IDmaBufIoPlugin, IBlockDeviceFactory
{
    public PluginInfo Info { get; } = new("testdisks", new Version(1, 0), "Disks of the tests", PluginKinds.Importer) { Words = ["testdisk"] };

    public string Word => "testdisk";

    /// <summary>The disk that was made last.</summary>
    public PuppetBlockDevice? Disk { get; private set; }

    /// <summary>What becomes of it before the host gets it.</summary>
    public Action<PuppetBlockDevice>? Prepare { get; set; }

    public IDmaFabric? Fabric { get; set; }

    public void Register(IServiceCollection services, IConfiguration options) => services.AddSingleton<IBlockDeviceFactory>(this);

    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        (DmaAddressSpace space, DmaPort port) = Fabric!.AddDevice("testdisk");
        Disk = new PuppetBlockDevice("testdisk", space, port, 1 << 20, new QueueLimits(512));
        Prepare?.Invoke(Disk);
        return Disk;
    }
}
