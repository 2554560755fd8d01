using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Models.Tests.Iommu;

public class StaleAccessTests
{
    public static TheoryData<IommuMode> Modes => [IommuMode.Strict, IommuMode.Lazy, IommuMode.Passthrough];

    [Theory]
    [MemberData(nameof(Modes))]
    public void F7_a_driver_that_goes_on_using_an_unmapped_range_is_recorded_in_every_mode(IommuMode mode)
    {
        using var bench = new Bench(mode);
        DeviceRange range = bench.Map(bench.Region(4, "vram-12"), DmaDirection.Bidirectional, "frame buffer", 42);
        Assert.Equal(Errno.Ok, bench.Write(range.Address + 4096));
        bench.AssertClean();
        bench.Space.Unmap(range);
        bench.Write(range.Address + 4096, 512);

        Assert.Equal(1, bench.Iommu.StaleAccesses);
        IommuAccessReport report = bench.SingleReport();
        Assert.Equal(mode == IommuMode.Strict ? IommuReportKind.Both : IommuReportKind.Stale, report.Kind);
        Assert.Equal(
            (1, "nvme0", range.Address + 4096, 512, DmaDirection.FromDevice),
            (report.Sequence, report.Device, report.Address, report.Length, report.Direction));
        Assert.Equal(("frame buffer", 42, "vram-12"), (report.Purpose, report.Generation, report.Region));
        string text = report.ToString();
        string[] parts =
        [
            "nvme0", "wrote 512 bytes", $"0x{range.Address + 4096:x}", "\"frame buffer\"", "generation 42", "vram-12", "rule F7",
            report.Reason, report.Remedy,
        ];
        foreach (string part in parts)
            Assert.Contains(part, text, StringComparison.Ordinal);
    }

    [Fact]
    public void F7_strict_refuses_a_stale_access_and_no_byte_moves()
    {
        using var bench = new Bench(IommuMode.Strict);
        MemoryRegion region = bench.Region(2);
        DeviceRange range = bench.Map(region);
        Assert.Equal(Errno.Ok, bench.Write(range.Address, 1, 0x11));
        bench.Space.Unmap(range);
        Assert.Equal(Errno.EFAULT, bench.Write(range.Address, 8192));
        Assert.Equal(Errno.EFAULT, bench.Read(range.Address));
        Assert.Equal((2, 2), (bench.Iommu.Faults, bench.Iommu.StaleAccesses));
        Assert.Equal(0x11, region.Span(0, 1)[0]);
        Assert.Equal(-1, region.Span(1, 8191).IndexOfAnyExcept((byte)0));
    }

    [Fact]
    public void F7_lazy_serves_what_its_IOTLB_holds_until_the_flush_and_records_it()
    {
        using var bench = new Bench(IommuMode.Lazy);
        MemoryRegion region = bench.Region(2);
        DeviceRange range = bench.Map(region);
        Assert.Equal(Errno.Ok, bench.Read(range.Address));
        bench.Space.Unmap(range);
        Assert.Equal(Errno.Ok, bench.Write(range.Address, 100, 0x77));
        Assert.Equal(-1, region.Span(0, 100).IndexOfAnyExcept((byte)0x77));
        Assert.Equal((0, 1), (bench.Iommu.Faults, bench.Iommu.StaleAccesses));

        // The second page was never in the IOTLB: a walk finds nothing.
        Assert.Equal(Errno.EFAULT, bench.Read(range.Address + 4096));
        Assert.Equal((1, 2), (bench.Iommu.Faults, bench.Iommu.StaleAccesses));
        bench.Iommu.Flush();
        Assert.Equal(Errno.EFAULT, bench.Write(range.Address));
        Assert.Equal([IommuReportKind.Stale, IommuReportKind.Both, IommuReportKind.Both], bench.Iommu.Reports.Select(r => r.Kind));
    }

    [Fact]
    public void Lazy_flushes_once_when_more_ranges_wait_than_its_threshold()
    {
        using var bench = new Bench(new ModelIommuOptions { Mode = IommuMode.Lazy, LazyFlushThreshold = 3 });
        MemoryRegion region = bench.Region(8);
        DeviceRange[] ranges = [.. Enumerable.Range(0, 4).Select(i => bench.Map(region, i, 1))];
        foreach (DeviceRange range in ranges)
            Assert.Equal(Errno.Ok, bench.Read(range.Address));
        for (int i = 0; i < 3; i++)
            bench.Space.Unmap(ranges[i]);
        Assert.Equal(Errno.Ok, bench.Read(ranges[0].Address));
        Assert.Equal(0, bench.Iommu.Counters.Flushes);
        bench.Space.Unmap(ranges[3]);
        Assert.Equal((1, 0), (bench.Iommu.Counters.Flushes, bench.Iommu.Counters.Invalidations));
        foreach (DeviceRange range in ranges)
            Assert.Equal(Errno.EFAULT, bench.Read(range.Address));
        Assert.Equal(4, bench.Iommu.Faults);
    }

    [Fact]
    public void Lazy_hands_out_no_address_again_before_the_flush_and_flushes_when_it_has_no_other()
    {
        var options = new ModelIommuOptions { Mode = IommuMode.Lazy, AddressBits = 22, LazyFlushThreshold = 100_000, ReuseDelay = 0 };
        using var bench = new Bench(options);
        MemoryRegion region = bench.Region(1);
        var seen = new HashSet<ulong>();
        for (int i = 0; i < 1023; i++)
        {
            DeviceRange range = bench.Map(region);
            Assert.True(seen.Add(range.Address));
            bench.Space.Unmap(range);
            Assert.Equal(0, bench.Iommu.Counters.Flushes);
        }

        Assert.Contains(bench.Map(region).Address, seen);
        Assert.Equal(1, bench.Iommu.Counters.Flushes);
    }

    [Fact]
    public void F7_passthrough_serves_a_stale_access_and_records_it()
    {
        using var bench = new Bench(IommuMode.Passthrough);
        MemoryRegion region = bench.Region(2);
        DeviceRange range = bench.Map(region);
        DeviceRange second = bench.Map(region, 0, 1);
        bench.Space.Unmap(range);
        Assert.Equal(Errno.Ok, bench.Write(range.Address));
        bench.AssertClean();

        // The second page has no live mapping left, the first one still has.
        Assert.Equal(Errno.Ok, bench.Write(range.Address, 8192, 0x66));
        Assert.Equal(-1, region.Span(0, 8192).IndexOfAnyExcept((byte)0x66));
        IommuAccessReport report = bench.SingleReport();
        Assert.Equal((IommuReportKind.Stale, range.Address + 4096, 4096), (report.Kind, report.Address, report.Length));
        bench.Space.Unmap(second);
        Assert.Equal(Errno.Ok, bench.Read(range.Address));
        Assert.Equal((0, 2), (bench.Iommu.Faults, bench.Iommu.StaleAccesses));
    }

    [Fact]
    public void F7_passthrough_records_exactly_the_part_of_an_access_that_no_live_mapping_covers()
    {
        using var bench = new Bench(IommuMode.Passthrough);
        MemoryRegion region = bench.NumberedRegion(5);
        ulong first = bench.Map(region, 1, 1).Address - 4096;
        bench.Map(region, 3, 1, DmaDirection.FromDevice, "other way", 8);
        byte[] read = new byte[5 * Bench.Page];
        Assert.Equal(Errno.Ok, bench.Port.Read(first, read));
        Assert.True(region.Span(0, read.Length).SequenceEqual(read));
        Assert.Equal(
            [(first, 4096L, null), (first + (2 * 4096), 4096, null), (first + (3 * 4096), 4096, "other way"), (first + (4 * 4096), 4096, null)],
            bench.Iommu.Reports.Select(r => (r.Address, r.Length, r.Purpose)));
    }

    [Fact]
    public void Passthrough_faults_outside_every_known_region()
    {
        using var bench = new Bench(IommuMode.Passthrough);
        MemoryRegion region = bench.Region(2);
        DeviceRange range = bench.Map(region);
        bench.Map(bench.Region(2, "next"));
        Assert.Equal(Errno.EFAULT, bench.Read(range.Address + 8192 - 4));
        Assert.Equal(Errno.EFAULT, bench.Read(0));
        Assert.Equal((2, 0), (bench.Iommu.Faults, bench.Iommu.StaleAccesses));
        Assert.Equal(range.Address + 8192, bench.Iommu.Reports[0].Address);
        Assert.Equal(4, bench.Iommu.Reports[0].Length);
    }

    [Theory]
    [InlineData(IommuMode.Strict, DmaDirection.ToDevice)]
    [InlineData(IommuMode.Strict, DmaDirection.FromDevice)]
    [InlineData(IommuMode.Lazy, DmaDirection.ToDevice)]
    [InlineData(IommuMode.Lazy, DmaDirection.FromDevice)]
    [InlineData(IommuMode.Passthrough, DmaDirection.ToDevice)]
    [InlineData(IommuMode.Passthrough, DmaDirection.FromDevice)]
    public void T1_an_access_against_the_direction_of_its_mapping_is_recorded_and_refused_where_it_is_translated(
        IommuMode mode, DmaDirection mapped)
    {
        using var bench = new Bench(mode);
        MemoryRegion region = bench.Region(2);
        DeviceRange range = bench.Map(region, mapped);
        (ulong right, ulong wrong) = (range.Address, range.Address + 4096);
        Errno good = mapped == DmaDirection.ToDevice ? bench.Read(right) : bench.Write(right);
        Assert.Equal(Errno.Ok, good);
        bench.AssertClean();
        Errno bad = mapped == DmaDirection.ToDevice ? bench.Write(wrong) : bench.Read(wrong);
        IommuAccessReport report = bench.SingleReport();
        bool translated = mode != IommuMode.Passthrough;
        Assert.Equal(
            (translated ? Errno.EFAULT : Errno.Ok, translated ? IommuReportKind.Fault : IommuReportKind.Stale, "T1"),
            (bad, report.Kind, report.Rule));
        if (translated && mapped == DmaDirection.ToDevice)
            Assert.Equal(-1, region.Span(0, 8192).IndexOfAnyExcept((byte)0));
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void F7_an_access_to_dead_memory_is_recorded_although_its_mapping_is_live(IommuMode mode)
    {
        using var bench = new Bench(mode);
        MemoryRegion region = bench.Region(2, "old place");
        DeviceRange range = bench.Map(region);
        region.MarkDead();
        Assert.Equal(Errno.Ok, bench.Write(range.Address));
        IommuAccessReport report = bench.SingleReport();
        Assert.Equal((IommuReportKind.Stale, "buffer", "old place", "F7"), (report.Kind, report.Purpose, report.Region, report.Rule));
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void F7_memory_that_dies_while_a_DMA_is_under_way_is_recorded(IommuMode mode)
    {
        using var bench = new Bench(mode);
        MemoryRegion region = bench.Region(2);
        DeviceRange range = bench.Map(region);
        Assert.Equal(Errno.Ok, bench.Port.Transfer(range.Address, 100, DmaDirection.FromDevice, new Killer(region)));
        Assert.Equal(IommuReportKind.Stale, bench.SingleReport().Kind);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void An_access_whose_memory_was_freed_faults_and_is_recorded(IommuMode mode)
    {
        using var bench = new Bench(mode);
        MemoryRegion region = MemoryRegion.Allocate("freed", 8192);
        DeviceRange range = bench.Map(region);
        DeviceRange kept = bench.Map(region);
        Assert.Equal(Errno.Ok, bench.Read(range.Address));
        Assert.Equal(Errno.Ok, bench.Read(kept.Address));
        bench.Space.Unmap(range);
        region.Dispose();
        Assert.Equal(Errno.EFAULT, bench.Write(range.Address));
        Assert.Equal(Errno.EFAULT, bench.Read(kept.Address));
        Assert.All(bench.Iommu.Reports, r => Assert.Equal((IommuReportKind.Both, "freed"), (r.Kind, r.Region)));
        Assert.Equal((2, 2), (bench.Iommu.Faults, bench.Iommu.StaleAccesses));
        bench.Space.Unmap(kept);
        Assert.Equal(Errno.EFAULT, bench.Read(kept.Address));
    }

    [Theory]
    [InlineData(IommuMode.Lazy)]
    [InlineData(IommuMode.Passthrough)]
    public void A_stale_transfer_served_through_the_memory_file_moves_the_same_bytes(IommuMode mode)
    {
        using var bench = new Bench(mode);
        MemoryRegion region = bench.NumberedRegion(40);
        DeviceRange range = bench.Map(region);
        byte[] all = new byte[40 * Bench.Page];
        Assert.Equal(Errno.Ok, bench.Port.Read(range.Address, all));
        bench.Space.Unmap(range);
        byte[] again = new byte[all.Length - 24];
        Assert.Equal(Errno.Ok, bench.Port.Read(range.Address + 24, again));
        Assert.True(all.AsSpan(24).SequenceEqual(again));
        Assert.Equal(again.Length, bench.SingleReport().Length);
    }

    [Theory]
    [InlineData(IommuMode.Lazy)]
    [InlineData(IommuMode.Passthrough)]
    public void A_stale_transfer_outlives_its_memory_being_freed_under_it(IommuMode mode)
    {
        using var bench = new Bench(mode);
        MemoryRegion region = MemoryRegion.Allocate("freed", 256 * 1024);
        DeviceRange range = bench.Map(region);
        byte[] all = new byte[region.Length];
        Assert.Equal(Errno.Ok, bench.Port.Read(range.Address, all));
        bench.Space.Unmap(range);
        var mover = new FreeingMover(region);
        Assert.Equal(Errno.Ok, bench.Port.Transfer(range.Address, region.Length, DmaDirection.FromDevice, mover));
        Assert.Equal(region.Length, mover.Moved);
        Assert.Equal(IommuReportKind.Stale, bench.SingleReport().Kind);
        Assert.Equal(Errno.EFAULT, bench.Write(range.Address));
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void An_address_beyond_the_width_of_the_device_faults_and_does_not_wrap(IommuMode mode)
    {
        using var bench = new Bench(mode);
        Assert.Equal(Errno.EFAULT, bench.Read(1UL << 48));
        Assert.Equal(Errno.EFAULT, bench.Read(ulong.MaxValue - 3));
        Assert.Equal((2, 0), (bench.Iommu.Faults, bench.Iommu.StaleAccesses));
    }

    [Fact]
    public void The_history_forgets_the_oldest_mapping_first_and_then_a_fault_is_just_a_fault()
    {
        using var bench = new Bench(new ModelIommuOptions { HistoryLength = 3 });
        MemoryRegion region = bench.Region(1);
        DeviceRange[] ranges = [.. Enumerable.Range(0, 5).Select(i => bench.Map(region, generation: i))];
        foreach (DeviceRange range in ranges)
            bench.Space.Unmap(range);
        foreach (DeviceRange range in ranges)
            bench.Read(range.Address);
        Assert.Equal(
            [
                (IommuReportKind.Fault, 0L),
                (IommuReportKind.Fault, 0),
                (IommuReportKind.Both, 2),
                (IommuReportKind.Both, 3),
                (IommuReportKind.Both, 4),
            ],
            bench.Iommu.Reports.Select(r => (r.Kind, r.Generation)));
    }

    [Fact]
    public void A_stale_access_to_a_reused_address_names_the_mapping_that_ended_last()
    {
        using var bench = new Bench(new ModelIommuOptions { ReuseDelay = 0 });
        MemoryRegion region = bench.Region(1);
        DeviceRange first = bench.Map(region, generation: 1);
        bench.Space.Unmap(first);
        DeviceRange second = bench.Map(region, generation: 2);
        Assert.Equal(first.Address, second.Address);
        bench.Space.Unmap(second);
        bench.Read(first.Address);
        Assert.Equal(2, bench.SingleReport().Generation);
    }

    [Fact]
    public void Reports_stop_at_a_thousand_and_the_counts_go_on()
    {
        using var bench = new Bench(IommuMode.Strict);
        for (int i = 0; i < 1500; i++)
            bench.Read(4096);
        Assert.Equal((1000, 1500), (bench.Iommu.Reports.Count, bench.Iommu.Faults));
        Assert.Equal(Enumerable.Range(1, 1000).Select(i => (long)i), bench.Iommu.Reports.Select(r => r.Sequence));
    }

    private sealed class Killer(MemoryRegion region) : IDmaMover
    {
        public Errno Move(Span<byte> piece, long position)
        {
            region.MarkDead();
            return Errno.Ok;
        }
    }

    private sealed class FreeingMover(MemoryRegion region) : IDmaMover
    {
        public long Moved { get; private set; }

        public Errno Move(Span<byte> piece, long position)
        {
            region.Dispose();
            piece.Fill(0x44);
            Moved += piece.Length;
            return Errno.Ok;
        }
    }
}
