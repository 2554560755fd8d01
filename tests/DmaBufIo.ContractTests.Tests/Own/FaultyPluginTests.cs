using DmaBufIo.Files;

namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>The exporter that makes a mistake where it is told to, and is correct else.</summary>
internal sealed class FaultyExporterFixture(string? fault) : IExporterFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Fixtures.FaultyExporter");

    public IReadOnlyDictionary<string, string?> Settings => new Dictionary<string, string?> { ["faulty-exporter:fault"] = fault };

    public ExporterCapabilities Capabilities =>
        ExporterCapabilities.Moves | ExporterCapabilities.Pins | ExporterCapabilities.HostMemory | ExporterCapabilities.Jobs | ExporterCapabilities.Large;

    public ExporterTarget Create(ContractWorld world, string name, long size) => new(world.Host.CreateBuffer("faulty", name, size));
}

/// <summary>The file that makes a mistake where it is told to, and is correct else.</summary>
internal sealed class FaultyFileFixture(string? fault) : IFileFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Fixtures.FaultyFile");

    public IReadOnlyDictionary<string, string?> Settings => new Dictionary<string, string?> { ["faulty-file:fault"] = fault };

    public FileCapabilities Capabilities => FileCapabilities.Storage;

    public ImporterTarget Open(ContractWorld world, OpenFlags flags) => new FileTarget(world, "striped:data@(puppet:512K,max=8K,puppet:512K,max=8K)", flags);
}

public sealed class CorrectFaultyExporterTests() : ExporterContract(new FaultyExporterFixture(null));

public sealed class CorrectFaultyFileTests() : FileContract(new FaultyFileFixture(null));
