namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>Host memory that never moves.</summary>
internal sealed class UdmabufFixture : IExporterFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Exporters.Udmabuf");

    public ExporterCapabilities Capabilities =>
        ExporterCapabilities.Pins | ExporterCapabilities.Descriptors | ExporterCapabilities.HostMemory | ExporterCapabilities.Large;

    public ExporterTarget Create(ContractWorld world, string name, long size) => new(world.Host.CreateBuffer("udmabuf:limit=2G", name, size));
}

public sealed class UdmabufExporterTests() : ExporterContract(new UdmabufFixture());
