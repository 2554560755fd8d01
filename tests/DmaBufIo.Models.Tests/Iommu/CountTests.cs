using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Models.Tests.Iommu;

public class CountTests
{
    private static readonly IommuCounters s_none = new(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

    public static TheoryData<IommuMode> Modes => [IommuMode.Strict, IommuMode.Lazy, IommuMode.Passthrough];

    [Theory]
    [MemberData(nameof(Modes))]
    public void A_premapped_request_after_the_first_one_maps_walks_and_invalidates_nothing(IommuMode mode)
    {
        const int Requests = 5000;
        using var bench = new Bench(mode);
        DeviceRange range = bench.Map(bench.Region(16));
        byte[] block = new byte[Bench.Page];
        for (ulong i = 0; i < 16; i++)
            Assert.Equal(Errno.Ok, bench.Port.Read(range.Address + (i * Bench.Page), block));
        IommuCounters warm = bench.Iommu.Counters;
        for (ulong i = 0; i < Requests; i++)
            Assert.Equal(Errno.Ok, bench.Port.Read(range.Address + (i % 16 * Bench.Page), block));
        IommuCounters expected = s_none with { IotlbHits = mode == IommuMode.Passthrough ? 0 : Requests, BytesFromMemory = Requests * Bench.Page };
        Assert.Equal(expected, bench.Iommu.Counters.Since(warm));
        bench.AssertClean();
    }

    [Theory]
    [InlineData(IommuMode.Strict, true)]
    [InlineData(IommuMode.Strict, false)]
    [InlineData(IommuMode.Lazy, true)]
    [InlineData(IommuMode.Lazy, false)]
    [InlineData(IommuMode.Passthrough, true)]
    public void A_4_KiB_request_mapped_for_itself_costs_exactly_what_its_mode_says(IommuMode mode, bool thread)
    {
        // Lazy flushes when one range more than its 256 waits: once in 257 requests.
        const int Flushes = 10;
        const int Requests = 257 * Flushes;
        using var bench = new Bench(new ModelIommuOptions { Mode = mode, InvalidationThread = thread });
        MemoryRegion region = bench.Region(16);
        bench.Map(bench.Region(3), purpose: "queue");
        byte[] block = new byte[Bench.Page];
        IommuCounters before = bench.Iommu.Counters;
        for (int i = 0; i < Requests; i++)
        {
            DeviceRange range = bench.Map(region, i % 16, 1);
            Assert.Equal(Errno.Ok, bench.Port.Read(range.Address, block));
            bench.Space.Unmap(range);
        }

        IommuCounters mapped = s_none with { Maps = Requests, Unmaps = Requests, BytesFromMemory = Requests * Bench.Page };
        IommuCounters walked = mapped with { TableWalks = Requests, IotlbMisses = Requests };
        IommuCounters expected = mode switch
        {
            IommuMode.Strict => walked with
            {
                Invalidations = Requests,
                AcknowledgedInvalidations = Requests,
                InvalidationWaits = Requests,
            },
            IommuMode.Lazy => walked with { Flushes = Flushes, InvalidationWaits = Flushes },
            _ => mapped,
        };
        Assert.Equal(expected, bench.Iommu.Counters.Since(before));
        bench.AssertClean();
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(10, 1)]
    [InlineData(255, 1)]
    [InlineData(256, 1)]
    [InlineData(257, 2)]
    [InlineData(1000, 4)]
    public void Ranges_unmapped_together_are_invalidated_one_by_one_and_acknowledged_together(int count, int waits)
    {
        using var bench = new Bench(new ModelIommuOptions { IotlbEntries = 1024 });
        DeviceRange[] ranges = MapPages(bench, count);
        foreach (DeviceRange range in ranges)
            Assert.Equal(Errno.Ok, bench.Read(range.Address));
        IommuCounters before = bench.Iommu.Counters;
        bench.Space.Unmap(ranges);
        IommuCounters expected = s_none with
        {
            Unmaps = count,
            Invalidations = count,
            AcknowledgedInvalidations = count,
            InvalidationWaits = waits,
        };
        Assert.Equal(expected, bench.Iommu.Counters.Since(before));
        Assert.All(ranges, r => Assert.Equal(Errno.EFAULT, bench.Read(r.Address)));
        Assert.Equal((count, count), (bench.Iommu.Faults, bench.Iommu.StaleAccesses));
    }

    [Fact]
    public void Lazy_ranges_unmapped_together_flush_as_often_as_ranges_unmapped_one_by_one()
    {
        using var bench = new Bench(new ModelIommuOptions { Mode = IommuMode.Lazy, LazyFlushThreshold = 3 });
        bench.Space.Unmap(MapPages(bench, 9));
        Assert.Equal((2, 1), (bench.Iommu.Counters.Flushes, bench.Iommu.Counters.InvalidationWaits));
        bench.Space.Unmap(ReadOnlySpan<DeviceRange>.Empty);
        Assert.Equal((2, 1), (bench.Iommu.Counters.Flushes, bench.Iommu.Counters.InvalidationWaits));
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void Of_ranges_unmapped_together_those_before_an_unknown_one_are_ended_and_those_after_it_live(IommuMode mode)
    {
        using var bench = new Bench(mode);
        DeviceRange[] ranges = MapPages(bench, 5);
        bench.Space.Unmap(ranges[2]);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => bench.Space.Unmap(ranges)).Errno);
        Assert.Equal((2, 3), (bench.Iommu.LiveMappings, bench.Iommu.Counters.Unmaps));
        Assert.Equal(bench.Iommu.Counters.Invalidations, bench.Iommu.Counters.AcknowledgedInvalidations);
        Assert.Equal(Errno.Ok, bench.Read(ranges[4].Address));
        bench.AssertClean();
        bench.Space.Unmap(ranges.AsSpan(3));
        Assert.Equal(0, bench.Iommu.LiveMappings);
    }

    [Fact]
    public void Counters_are_kept_for_each_device_by_name_also_after_it_was_removed()
    {
        using var bench = new Bench(IommuMode.Strict);
        (DmaAddressSpace other, _) = bench.Iommu.AddDevice("nvme1");
        MemoryRegion region = bench.Region(1);
        bench.Space.Unmap(bench.Map(region));
        MapAndUnmap(other, region, 3);
        IommuCounters first = bench.Iommu.CountersOf("nvme0");
        IommuCounters second = bench.Iommu.CountersOf("nvme1");
        Assert.Equal((1, 1), (first.Maps, first.AcknowledgedInvalidations));
        Assert.Equal((3, 3), (second.Maps, second.AcknowledgedInvalidations));
        Assert.Equal(first, bench.Iommu.Counters.Since(second));

        bench.Iommu.RemoveDevice(other);
        Assert.Equal(second, bench.Iommu.CountersOf("nvme1"));
        MapAndUnmap(bench.Iommu.AddDevice("nvme1").Space, region, 2);
        Assert.Equal((5, 5), (bench.Iommu.CountersOf("nvme1").Maps, bench.Iommu.CountersOf("nvme1").InvalidationWaits));
        Assert.Equal(6, bench.Iommu.Counters.Maps);
        Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => bench.Iommu.CountersOf("nvme2")).Errno);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void A_map_and_an_unmap_allocate_the_description_of_the_mapping_and_nothing_else(IommuMode mode)
    {
        // An object header of 16 bytes and the fields of DeviceRange.
        const long Description = 80;
        const int Pairs = 20_000;
        using var bench = new Bench(new ModelIommuOptions { Mode = mode, HistoryLength = 512 });
        MemoryRegion region = bench.Region(1);
        MapAndUnmap(bench.Space, region, 3000);
        long before = GC.GetAllocatedBytesForCurrentThread();
        MapAndUnmap(bench.Space, region, Pairs);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;

        // A thread that had to sleep for its acknowledgement allocated the condition that it slept on.
        Assert.True(allocated < (Description + 8) * Pairs, $"{allocated / (double)Pairs} bytes per pair");
    }

    private static DeviceRange[] MapPages(Bench bench, int count)
    {
        MemoryRegion region = bench.Region(count);
        return [.. Enumerable.Range(0, count).Select(i => bench.Map(region, i, 1))];
    }

    private static void MapAndUnmap(DmaAddressSpace space, MemoryRegion region, int count)
    {
        for (int i = 0; i < count; i++)
            space.Unmap(space.Map(new MemoryRange(region, 0, Bench.Page), DmaDirection.ToDevice, "request"));
    }
}
