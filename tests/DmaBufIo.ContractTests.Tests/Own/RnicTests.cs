using DmaBufIo.Files;

namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>A connection between two cards as an importer, whose other end is driven by verbs.</summary>
internal sealed class RnicImporterFixture(string options, ImporterCapabilities without = ImporterCapabilities.None) : IImporterFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Importers.Rnic");

    // A reset ends its connections, so no request after it goes on.
    public ImporterCapabilities Capabilities =>
        (ImporterCapabilities.Remove | ImporterCapabilities.Interrupts | ImporterCapabilities.MovesData | ImporterCapabilities.Paged | ImporterCapabilities.WorksAlone | ImporterCapabilities.Connected)
        & ~without;

    public ImporterTarget Open(ContractWorld world) => new ConnectionTarget(world, OpenFlags.Direct, options);
}

/// <summary>Cards with engines on threads of their own.</summary>
public sealed class RnicImporterTests() : ImporterContract(new RnicImporterFixture(""));

/// <summary>Cards without threads, which work when somebody polls.</summary>
public sealed class RnicInlineImporterTests() : ImporterContract(new RnicImporterFixture(",thread=off", ImporterCapabilities.WorksAlone | ImporterCapabilities.Interrupts));

/// <summary>A connection as a file.</summary>
internal sealed class RnicFileFixture : IFileFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Importers.Rnic");

    public FileCapabilities Capabilities => FileCapabilities.None;

    public ImporterTarget Open(ContractWorld world, OpenFlags flags) => new ConnectionTarget(world, flags);
}

public sealed class RnicFileTests() : FileContract(new RnicFileFixture());

public sealed class RnicComplianceTests() : ComplianceContract(new ByFolder("DmaBufIo.Importers.Rnic"));
