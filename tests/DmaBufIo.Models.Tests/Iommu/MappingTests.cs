using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Models.Tests.Iommu;

public class MappingTests
{
    [Theory]
    [InlineData(512, 4096)]
    [InlineData(0, 4095)]
    [InlineData(0, 512)]
    [InlineData(1, 1)]
    public void A_range_that_is_not_whole_pages_is_refused_with_EINVAL(long offset, long length)
    {
        foreach (IommuMode mode in Enum.GetValues<IommuMode>())
        {
            using var bench = new Bench(mode);
            MemoryRegion region = bench.Region(4);
            var error = Assert.Throws<DmaBufIoException>(() => bench.Space.Map(
                new MemoryRange(region, offset, length), DmaDirection.ToDevice, "odd"));
            Assert.Equal(Errno.EINVAL, error.Errno);
            Assert.Equal(0, bench.Iommu.LiveMappings);
        }
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(4096, 4096 * 4)]
    [InlineData(4096 * 4, 4096)]
    [InlineData(-4096, 4096)]
    [InlineData(4096, long.MaxValue & ~4095L)]
    public void A_range_that_is_empty_or_leaves_its_region_is_refused_with_EINVAL(long offset, long length)
    {
        using var bench = new Bench(IommuMode.Strict);
        MemoryRegion region = bench.Region(4);
        var error = Assert.Throws<DmaBufIoException>(() => bench.Space.Map(
            new MemoryRange(region, offset, length), DmaDirection.ToDevice, "odd"));
        Assert.Equal(Errno.EINVAL, error.Errno);
    }

    [Fact]
    public void T1_a_mapping_without_a_direction_is_refused_with_EINVAL()
    {
        using var bench = new Bench(IommuMode.Strict);
        MemoryRegion region = bench.Region(1);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => bench.Map(region, DmaDirection.None)).Errno);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => bench.Map(region, (DmaDirection)4)).Errno);
    }

    [Theory]
    [InlineData(IommuMode.Strict)]
    [InlineData(IommuMode.Lazy)]
    [InlineData(IommuMode.Passthrough)]
    public void A_mapping_can_be_unmapped_once_and_only_through_the_space_that_made_it(IommuMode mode)
    {
        using var bench = new Bench(mode);
        DeviceRange range = bench.Map(bench.Region(1));
        (DmaAddressSpace other, _) = bench.Iommu.AddDevice("nvme1");
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => other.Unmap(range)).Errno);
        bench.Space.Unmap(range);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => bench.Space.Unmap(range)).Errno);
        Assert.Equal(1, bench.Iommu.Counters.Unmaps);
    }

    [Theory]
    [InlineData(IommuMode.Strict)]
    [InlineData(IommuMode.Lazy)]
    [InlineData(IommuMode.Passthrough)]
    public void A_mapping_says_what_it_was_made_from(IommuMode mode)
    {
        using var bench = new Bench(mode);
        MemoryRegion region = bench.Region(8);
        DeviceRange range = bench.Map(region, 2, 3, DmaDirection.FromDevice, "queue", 7);
        Assert.Same(bench.Space, range.Space);
        Assert.Equal(new MemoryRange(region, 2 * Bench.Page, 3 * Bench.Page), range.Memory);
        Assert.Equal((DmaDirection.FromDevice, "queue", 7L), (range.Direction, range.Purpose, range.Generation));
        Assert.Equal(0UL, range.Address % Bench.Page);
        Assert.NotEqual(0UL, range.Address);
        Assert.Equal(Bench.Page, bench.Space.Granularity);
    }

    [Fact]
    public void A_full_address_space_answers_ENOMEM_and_takes_a_mapping_again_after_an_unmap()
    {
        using var bench = new Bench(new ModelIommuOptions { AddressBits = 22, IotlbEntries = 4 });
        MemoryRegion region = bench.Region(1);
        var ranges = new List<DeviceRange>();
        for (int i = 0; i < 1023; i++)
            ranges.Add(bench.Map(region));
        Assert.Equal(1023, ranges.Select(r => r.Address).Distinct().Count());
        Assert.DoesNotContain(ranges, r => r.Address == 0 || r.Address >= 1 << 22);
        Assert.Equal(Errno.ENOMEM, Assert.Throws<DmaBufIoException>(() => bench.Map(region)).Errno);
        bench.Space.Unmap(ranges[500]);
        Assert.Equal(ranges[500].Address, bench.Map(region).Address);
        bench.AssertClean();
    }

    [Theory]
    [InlineData(IommuMode.Strict)]
    [InlineData(IommuMode.Lazy)]
    public void Ranges_freed_in_any_order_coalesce_to_the_whole_address_space(IommuMode mode)
    {
        using var bench = new Bench(new ModelIommuOptions { Mode = mode, AddressBits = 22, ReuseDelay = 16, LazyFlushThreshold = 8 });
        MemoryRegion large = bench.Region(1023);
        var random = new Random(4711);
        for (int round = 0; round < 4; round++)
        {
            var ranges = new List<DeviceRange>();
            for (int left = 1023; left > 0; left -= (int)(ranges[^1].Length / Bench.Page))
                ranges.Add(bench.Map(large, 0, Math.Min(left, random.Next(1, 24))));
            foreach (DeviceRange range in ranges.OrderBy(_ => random.Next()).ToList())
                bench.Space.Unmap(range);

            // Only one free range of every page that there is can hold this.
            bench.Space.Unmap(bench.Map(large));
        }

        Assert.Equal(0, bench.Iommu.LiveMappings);
    }

    [Fact]
    public void Freed_addresses_rest_before_they_are_handed_out_again()
    {
        using var bench = new Bench(new ModelIommuOptions { ReuseDelay = 100 });
        MemoryRegion region = bench.Region(1);
        var seen = new HashSet<ulong>();
        for (int i = 0; i <= 100; i++)
        {
            DeviceRange range = bench.Map(region);
            Assert.True(seen.Add(range.Address), $"mapping {i} got an address that was freed less than 100 mappings ago");
            bench.Space.Unmap(range);
        }

        Assert.Contains(bench.Map(region).Address, seen);
    }

    [Fact]
    public void Passthrough_gives_a_region_one_address_for_ever_and_no_two_regions_the_same()
    {
        using var bench = new Bench(IommuMode.Passthrough);
        (DmaAddressSpace other, _) = bench.Iommu.AddDevice("nvme1");
        var taken = new List<(ulong Start, ulong End)>();
        for (int i = 0; i < 300; i++)
        {
            using MemoryRegion region = MemoryRegion.Allocate("place", (1 + (i % 3)) * Bench.Page);
            DeviceRange first = bench.Map(region);
            DeviceRange again = bench.Map(region);
            DeviceRange elsewhere = other.Map(new MemoryRange(region, 0, Bench.Page), DmaDirection.ToDevice, "other");
            Assert.Equal(first.Address, again.Address);
            Assert.Equal(first.Address, elsewhere.Address);
            Assert.DoesNotContain(taken, t => first.Address < t.End && t.Start < first.Address + (ulong)region.Length);
            taken.Add((first.Address, first.Address + (ulong)region.Length));
            bench.Space.Unmap(first);
            bench.Space.Unmap(again);
            other.Unmap(elsewhere);
        }
    }

    [Fact]
    public void A_region_beyond_the_devices_address_width_is_refused_in_passthrough_mode()
    {
        using var bench = new Bench(new ModelIommuOptions { Mode = IommuMode.Passthrough, AddressBits = 22 });
        Assert.Equal(Errno.ENOMEM, Assert.Throws<DmaBufIoException>(() => bench.Map(bench.Region(1024))).Errno);
    }

    [Theory]
    [InlineData(nameof(ModelIommuOptions.IotlbEntries))]
    [InlineData(nameof(ModelIommuOptions.LazyFlushThreshold))]
    [InlineData(nameof(ModelIommuOptions.LazyIdleFlush))]
    [InlineData(nameof(ModelIommuOptions.AddressBits))]
    [InlineData(nameof(ModelIommuOptions.ReuseDelay))]
    [InlineData(nameof(ModelIommuOptions.HistoryLength))]
    [InlineData(nameof(ModelIommuOptions.Mode))]
    public void An_option_out_of_range_is_refused_by_name(string option)
    {
        var good = new ModelIommuOptions();
        ModelIommuOptions bad = option switch
        {
            nameof(ModelIommuOptions.IotlbEntries) => good with { IotlbEntries = 48 },
            nameof(ModelIommuOptions.LazyFlushThreshold) => good with { LazyFlushThreshold = -1 },
            nameof(ModelIommuOptions.LazyIdleFlush) => good with { LazyIdleFlush = TimeSpan.Zero },
            nameof(ModelIommuOptions.AddressBits) => good with { AddressBits = 49 },
            nameof(ModelIommuOptions.ReuseDelay) => good with { ReuseDelay = -1 },
            nameof(ModelIommuOptions.HistoryLength) => good with { HistoryLength = 0 },
            _ => good with { Mode = (IommuMode)3 },
        };
        var error = Assert.Throws<DmaBufIoException>(() => new ModelIommu(bad));
        Assert.Equal((Errno.EINVAL, option), (error.Errno, error.Subject));
    }
}
