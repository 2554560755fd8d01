using DmaBufIo.ContractTests;

namespace RamDisk.ContractTests;

/// <summary>The importer's contract, on this driver.</summary>
public sealed class ImporterTests() : ImporterContract(new Fixture());

/// <summary>Where the plugin is, what its device can, and how one is opened.</summary>
internal sealed class Fixture : IImporterFixture
{
    public string? PluginFolder => PluginFolders.Of("RamDisk");

    public ImporterCapabilities Capabilities => ImporterCapabilities.Storage & ~(ImporterCapabilities.Reset | ImporterCapabilities.Interrupts);

    public ImporterTarget Open(ContractWorld world) => new BlockDeviceTarget(world, "ramdisk:4M");
}
