using System.Buffers.Binary;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Models.Tests.Iommu;

/// <summary>One IOMMU with one device, and the regions that a test allocates; all disposed with it.</summary>
internal sealed class Bench : IDisposable
{
    public const int Page = 4096;

    private readonly List<MemoryRegion> _regions = [];

    public Bench(ModelIommuOptions options)
    {
        Iommu = new ModelIommu(options);
        (Space, Port) = Iommu.AddDevice("nvme0");
    }

    public Bench(IommuMode mode)
        : this(new ModelIommuOptions { Mode = mode })
    {
    }

    public ModelIommu Iommu { get; }

    public DmaAddressSpace Space { get; }

    public DmaPort Port { get; }

    public MemoryRegion Region(long pages, string name = "memory")
    {
        MemoryRegion region = MemoryRegion.Allocate(name, pages * Page);
        _regions.Add(region);
        return region;
    }

    /// <summary>A region in which each 8 bytes hold their own offset, so that a byte from the wrong place shows.</summary>
    public MemoryRegion NumberedRegion(int pages, string name = "memory")
    {
        MemoryRegion region = Region(pages, name);
        Number(region.Span(0, pages * Page));
        return region;
    }

    public static void Number(Span<byte> bytes)
    {
        for (int i = 0; i < bytes.Length; i += 8)
            BinaryPrimitives.WriteInt64LittleEndian(bytes[i..], i);
    }

    public DeviceRange Map(
        MemoryRegion region,
        long firstPage,
        long pages,
        DmaDirection direction = DmaDirection.Bidirectional,
        string purpose = "buffer",
        long generation = 1) =>
        Space.Map(new MemoryRange(region, firstPage * Page, pages * Page), direction, purpose, generation);

    public DeviceRange Map(
        MemoryRegion region, DmaDirection direction = DmaDirection.Bidirectional, string purpose = "buffer", long generation = 1) =>
        Space.Map(new MemoryRange(region, 0, region.Length), direction, purpose, generation);

    public Errno Read(ulong address, int length = 8) => Port.Read(address, new byte[length]);

    public Errno Write(ulong address, int length = 8, byte value = 0xEE)
    {
        byte[] source = new byte[length];
        Array.Fill(source, value);
        return Port.Write(address, source);
    }

    public void AssertClean() => Assert.True(
        Iommu.Faults == 0 && Iommu.StaleAccesses == 0,
        string.Join(Environment.NewLine, Iommu.Reports));

    public IommuAccessReport SingleReport() => Assert.Single(Iommu.Reports);

    public void Dispose()
    {
        Iommu.Dispose();
        foreach (MemoryRegion region in _regions)
            region.Dispose();
    }
}
