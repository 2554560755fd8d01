namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>The exporter of the models that moves on demand; every contract's host has it.</summary>
internal sealed class MovingFixture : IExporterFixture
{
    public string? PluginFolder => null;

    public ExporterCapabilities Capabilities =>
        ExporterCapabilities.Moves | ExporterCapabilities.Pins | ExporterCapabilities.HostMemory | ExporterCapabilities.Large;

    public ExporterTarget Create(ContractWorld world, string name, long size) => new(world.Host.CreateBuffer("moving", name, size));
}

public sealed class MovingExporterTests() : ExporterContract(new MovingFixture());
