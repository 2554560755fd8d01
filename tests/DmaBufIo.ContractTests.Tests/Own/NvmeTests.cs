namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>The NVMe driver on the controller model, whose data lies in a file.</summary>
internal sealed class NvmeFixture(string options = "", ImporterCapabilities without = ImporterCapabilities.None) : IImporterFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Importers.NvmePci");

    public IReadOnlyList<string> OtherPluginFolders => [PluginFolders.Of("DmaBufIo.Pci.Model")];

    public ImporterCapabilities Capabilities => ImporterCapabilities.Storage & ~without;

    public ImporterTarget Open(ContractWorld world)
    {
        string path = world.CreateFile("disk", 4 << 20);
        return new BlockDeviceTarget(world, $"nvme:{path}{options}", path);
    }
}

/// <summary>A controller that works on a thread of its own, with blocks of 512 bytes.</summary>
public sealed class NvmeImporterTests() : ImporterContract(new NvmeFixture());

/// <summary>Blocks of 4096 bytes.</summary>
[Trait("Duration", "Minutes")]
public sealed class NvmeLargeBlockImporterTests() : ImporterContract(new NvmeFixture(",lba=4096"));

/// <summary>A controller without a thread, which works when its driver polls.</summary>
[Trait("Duration", "Minutes")]
public sealed class NvmeInlineImporterTests() : ImporterContract(new NvmeFixture(",thread=off", without: ImporterCapabilities.WorksAlone | ImporterCapabilities.Interrupts));

/// <summary>A controller that takes two pages per command and sixteen commands per queue: requests are split, and there is little room.</summary>
[Trait("Duration", "Minutes")]
public sealed class NvmeSmallImporterTests() : ImporterContract(new NvmeFixture(",mdts=8K,entries=16"));
