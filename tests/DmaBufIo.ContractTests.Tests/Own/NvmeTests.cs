namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>The NVMe driver on the controller model, whose data lies in a file.</summary>
internal sealed class NvmeFixture(string options = "") : IImporterFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Importers.NvmePci");

    public IReadOnlyList<string> OtherPluginFolders => [PluginFolders.Of("DmaBufIo.Pci.Model")];

    public ImporterCapabilities Capabilities => ImporterCapabilities.Storage;

    public ImporterTarget Open(ContractWorld world)
    {
        string path = world.CreateFile("disk", 4 << 20);
        return new BlockDeviceTarget(world, $"nvme:{path}{options}", path);
    }
}

public sealed class NvmeImporterTests() : ImporterContract(new NvmeFixture());

public sealed class NvmeOwnThreadImporterTests() : ImporterContract(new NvmeFixture(",lba=4096"));
