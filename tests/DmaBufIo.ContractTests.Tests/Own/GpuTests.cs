namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>The modelled GPU: buffers of one world lie on one GPU.</summary>
internal sealed class GpuFixture(string options, ExporterCapabilities without = ExporterCapabilities.None) : IExporterFixture
{
    private const ExporterCapabilities All =
        ExporterCapabilities.Moves | ExporterCapabilities.Pins | ExporterCapabilities.HostMemory | ExporterCapabilities.Jobs
        | ExporterCapabilities.Pressure | ExporterCapabilities.PeerToPeer | ExporterCapabilities.Large;

    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Exporters.Gpu");

    public ExporterCapabilities Capabilities => All & ~without;

    public string PeerLocation => "hb0/rp1/sw0/near";

    public ExporterTarget Create(ContractWorld world, string name, long size) => new(world.Host.CreateBuffer($"gpu:{options}", name, size));
}

/// <summary>Memory enough for every buffer of a fact.</summary>
[Trait("Duration", "Minutes")]
public sealed class GpuExporterTests() : ExporterContract(new GpuFixture("slot=hb0/rp1/sw0/gpu,vram=128M", ExporterCapabilities.Large));

/// <summary>Memory for less than the buffers of some facts: they evict each other.</summary>
public sealed class SmallGpuExporterTests() : ExporterContract(new GpuFixture("slot=hb0/rp1/sw0/gpu,vram=17M", ExporterCapabilities.Large));

/// <summary>Buffers that stay in main memory unless they are moved on demand.</summary>
[Trait("Duration", "Minutes")]
public sealed class GpuSystemMemoryExporterTests() : ExporterContract(new GpuFixture("slot=hb0/rp1/sw0/gpu,vram=64M,placement=system", ExporterCapabilities.PeerToPeer))
{
    [Fact]
    public override void F7_requests_survive_that_memory_is_short() =>
        Assert.Skip("A buffer that is kept in main memory is not evicted.");
}
