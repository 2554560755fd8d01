using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Models.Tests.Iommu;

public class RemovalTests
{
    public static TheoryData<IommuMode> Modes => [IommuMode.Strict, IommuMode.Lazy, IommuMode.Passthrough];

    [Theory]
    [MemberData(nameof(Modes))]
    public void T11_every_access_of_a_removed_device_faults_in_every_mode(IommuMode mode)
    {
        using var bench = new Bench(mode);
        MemoryRegion region = bench.Region(1);
        DeviceRange range = bench.Map(region);
        Assert.Equal(Errno.Ok, bench.Read(range.Address));
        bench.Iommu.RemoveDevice(bench.Space);
        Assert.Equal(Errno.EFAULT, bench.Write(range.Address));
        IommuAccessReport report = bench.SingleReport();
        Assert.Equal((IommuReportKind.Both, "buffer", "T11"), (report.Kind, report.Purpose, report.Rule));
        Assert.Equal(0, region.Span(0, 1)[0]);
        Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => bench.Map(region)).Errno);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => bench.Space.Unmap(range)).Errno);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void Mappings_left_behind_by_a_removed_device_are_named_as_leaked(IommuMode mode)
    {
        using var bench = new Bench(mode);
        MemoryRegion region = bench.Region(4, "lost memory");
        bench.Space.Unmap(bench.Map(region));
        bench.Map(region, 0, 1, DmaDirection.ToDevice, "submission queue", 0);
        bench.Map(region, 1, 1, DmaDirection.ToDevice, "frame", 9);
        Assert.Equal((2, 0), (bench.Iommu.LiveMappings, bench.Iommu.LeakedMappings));
        bench.Iommu.RemoveDevice(bench.Space);
        bench.Iommu.RemoveDevice(bench.Space);
        Assert.Equal((0, 2), (bench.Iommu.LiveMappings, bench.Iommu.LeakedMappings));
        IReadOnlyList<string> leaks = bench.Iommu.LeakedMappingDescriptions;
        Assert.Equal(2, leaks.Count);
        Assert.All(leaks, l => Assert.Matches("nvme0.*lost memory", l));
        Assert.Contains(leaks, l => l.Contains("\"frame\" of generation 9", StringComparison.Ordinal));
        Assert.Equal((3, 1), (bench.Iommu.Counters.Maps, bench.Iommu.Counters.Unmaps));
    }

    [Fact]
    public void A_device_that_unmapped_everything_leaks_nothing_also_when_lazy_has_not_flushed()
    {
        using var bench = new Bench(IommuMode.Lazy);
        bench.Space.Unmap(bench.Map(bench.Region(4)));
        bench.Iommu.Dispose();
        bench.Iommu.Dispose();
        Assert.Equal(0, bench.Iommu.LeakedMappings);
        Assert.Throws<ObjectDisposedException>(() => bench.Iommu.AddDevice("late"));
    }

    [Fact]
    public void A_name_is_free_again_only_after_its_device_was_removed()
    {
        using var bench = new Bench(IommuMode.Strict);
        Assert.Equal(Errno.EEXIST, Assert.Throws<DmaBufIoException>(() => bench.Iommu.AddDevice("nvme0")).Errno);
        bench.Iommu.RemoveDevice(bench.Space);
        Assert.Equal("nvme0", bench.Iommu.AddDevice("nvme0").Port.DeviceName);
    }

    [Fact]
    public void A_space_of_another_IOMMU_is_refused()
    {
        using var bench = new Bench(IommuMode.Strict);
        using var other = new Bench(IommuMode.Strict);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => bench.Iommu.RemoveDevice(other.Space)).Errno);
        Assert.Equal(Errno.Ok, other.Read(other.Map(other.Region(1)).Address));
    }
}
