using DmaBufIo.ContractTests;
using DmaBufIo.Hosting;

namespace RamDisk.ContractTests;

/// <summary>The block device's contract, on this driver.</summary>
public sealed class BlockDeviceTests() : BlockDeviceContract(new BlockDeviceFixture());

/// <summary>What the device can as a block device, and how one is opened.</summary>
internal sealed class BlockDeviceFixture : IBlockDeviceFixture
{
    public string? PluginFolder => PluginFolders.Of("RamDisk");

    public BlockDeviceCapabilities Capabilities =>
        BlockDeviceCapabilities.KeepsData | BlockDeviceCapabilities.MovesData | BlockDeviceCapabilities.Tokens | BlockDeviceCapabilities.Remove | BlockDeviceCapabilities.Large;

    public OpenedDevice Open(ContractWorld world) => world.Host.Open("ramdisk:4M");

    public OpenedDevice OpenLarge(ContractWorld world) => world.Host.Open("ramdisk:5G");
}
