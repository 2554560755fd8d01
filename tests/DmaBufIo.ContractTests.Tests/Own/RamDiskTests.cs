namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>The sample of the tutorial: a correct driver in little code. No contract may find fault with it.</summary>
internal sealed class RamDiskFixture : IImporterFixture
{
    public string? PluginFolder => PluginFolders.Of("RamDisk");

    public ImporterCapabilities Capabilities =>
        ImporterCapabilities.Remove | ImporterCapabilities.KeepsData | ImporterCapabilities.Vectors | ImporterCapabilities.MovesData | ImporterCapabilities.WorksAlone | ImporterCapabilities.Quiet;

    public ImporterTarget Open(ContractWorld world) => new BlockDeviceTarget(world, "ramdisk:4M");
}

public sealed class RamDiskImporterTests() : ImporterContract(new RamDiskFixture());
