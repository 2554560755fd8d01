using DmaBufIo.ContractTests;

namespace MovingRam.ContractTests;

/// <summary>The exporter's contract, on this exporter.</summary>
public sealed class ExporterTests() : ExporterContract(new Fixture());

/// <summary>Where the plugin is, what its buffers can, and how one is made.</summary>
internal sealed class Fixture : IExporterFixture
{
    public string? PluginFolder => PluginFolders.Of("MovingRam");

    public ExporterCapabilities Capabilities =>
        ExporterCapabilities.Moves | ExporterCapabilities.Pins | ExporterCapabilities.HostMemory | ExporterCapabilities.Large;

    public ExporterTarget Create(ContractWorld world, string name, long size) => new(world.Host.CreateBuffer("movingram", name, size));
}
