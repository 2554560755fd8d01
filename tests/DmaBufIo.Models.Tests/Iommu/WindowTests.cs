using DmaBufIo.Dma;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Models.Tests.Iommu;

public class WindowTests
{
    public static TheoryData<IommuMode> Modes => [IommuMode.Strict, IommuMode.Lazy, IommuMode.Passthrough];

    [Theory]
    [MemberData(nameof(Modes))]
    public void F7_a_window_used_after_its_unmap_names_its_own_mapping_and_not_one_that_came_later(IommuMode mode)
    {
        using var bench = new Bench(new ModelIommuOptions { Mode = mode, LazyFlushThreshold = 0, ReuseDelay = 0 });
        MemoryRegion region = bench.Region(2);
        DeviceRange first = bench.Map(region, 0, 1, purpose: "submission queue", generation: 3);
        using DmaWindow window = Assert.IsAssignableFrom<DmaWindow>(bench.Port.OpenWindow(first.Address, 64, DmaDirection.ToDevice));
        Assert.True(window.TryEnter(out Span<byte> memory));
        Assert.Equal(64, memory.Length);
        window.Leave();
        bench.Space.Unmap([first]);
        bench.Map(region, 1, 1, purpose: "later", generation: 4);
        Assert.False(window.TryEnter(out _));
        IommuAccessReport report = bench.SingleReport();
        Assert.Equal((IommuReportKind.Both, "submission queue", 3L), (report.Kind, report.Purpose, report.Generation));
    }
}
