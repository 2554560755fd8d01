using DmaBufIo.Native;
using DmaBufIo.Plugins;

namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>Host memory that never moves.</summary>
internal sealed class UdmabufFixture : IExporterFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Exporters.Udmabuf");

    public ExporterCapabilities Capabilities =>
        ExporterCapabilities.Pins | ExporterCapabilities.Descriptors | ExporterCapabilities.HostMemory | ExporterCapabilities.Large;

    public ExporterTarget Create(ContractWorld world, string name, long size) => new(world.Host.CreateBuffer("udmabuf:limit=2G", name, size));
}

/// <summary>Ranges of two sealed memory files, in another order than they lie in.</summary>
internal sealed class UdmabufRangesFixture : IExporterFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Exporters.Udmabuf");

    public ExporterCapabilities Capabilities => ExporterCapabilities.Pins | ExporterCapabilities.HostMemory;

    public ExporterTarget Create(ContractWorld world, string name, long size)
    {
        using MemfdHandle one = Sealed(name, size + 8192);
        using MemfdHandle two = Sealed(name, size + 8192);
        var ranges = new List<MemoryFileRange>();
        for (long done = 0; done < size;)
        {
            long length = Math.Min(size - done, 4096 * (1 + (ranges.Count % 5)));
            ranges.Add(new MemoryFileRange(ranges.Count % 2 == 0 ? one : two, size + 4096 - done - length, length));
            done += length;
        }

        return new ExporterTarget(world.Host.CreateBuffer("udmabuf", name, ranges));
    }

    private static MemfdHandle Sealed(string name, long size)
    {
        MemfdHandle memfd = MemfdHandle.Create(name, size);
        memfd.SealAgainstShrinking();
        return memfd;
    }
}

public sealed class UdmabufRangesExporterTests() : ExporterContract(new UdmabufRangesFixture());

public sealed class UdmabufExporterTests() : ExporterContract(new UdmabufFixture());
