using System.Buffers.Binary;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Models.Tests.Iommu;

public class TranslationTests
{
    public static TheoryData<IommuMode> Modes => [IommuMode.Strict, IommuMode.Lazy, IommuMode.Passthrough];

    [Theory]
    [MemberData(nameof(Modes))]
    public void A_device_reads_and_writes_exactly_the_bytes_behind_its_addresses(IommuMode mode)
    {
        using var bench = new Bench(mode);
        MemoryRegion region = bench.NumberedRegion(16);
        DeviceRange range = bench.Map(region, 3, 9);
        byte[] read = new byte[5000];
        Assert.Equal(Errno.Ok, bench.Port.Read(range.Address + 4091, read));
        Assert.True(region.Span((3 * Bench.Page) + 4091, 5000).SequenceEqual(read));

        byte[] before = region.Span(0, 16 * Bench.Page).ToArray();
        byte[] written = new byte[12345];
        new Random(1).NextBytes(written);
        Assert.Equal(Errno.Ok, bench.Port.Write(range.Address + 77, written));
        written.CopyTo(before, (3 * Bench.Page) + 77);
        Assert.True(region.Span(0, 16 * Bench.Page).SequenceEqual(before));
        bench.AssertClean();
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void A_transfer_hands_out_one_piece_per_mapping_however_many_pages_it_has(IommuMode mode)
    {
        using var bench = new Bench(mode);
        MemoryRegion region = bench.NumberedRegion(1500);
        DeviceRange range = bench.Map(region);
        var mover = new Pieces();
        long length = region.Length - 100;
        Assert.Equal(Errno.Ok, bench.Port.Transfer(range.Address + 40, length, DmaDirection.ToDevice, mover));
        Assert.Equal([(0L, (int)length, 40L)], mover.Seen);
    }

    [Theory]
    [InlineData(IommuMode.Strict)]
    [InlineData(IommuMode.Lazy)]
    public void A_transfer_goes_through_mappings_that_are_adjacent_in_device_addresses(IommuMode mode)
    {
        using var bench = new Bench(mode);
        MemoryRegion region = bench.NumberedRegion(8);
        DeviceRange[] ranges = [bench.Map(region, 0, 2), bench.Map(region, 5, 1), bench.Map(region, 3, 2)];
        Array.Sort(ranges, (a, b) => a.Address.CompareTo(b.Address));
        for (int i = 1; i < ranges.Length; i++)
            Assert.Equal(ranges[i - 1].Address + (ulong)ranges[i - 1].Length, ranges[i].Address);
        var mover = new Pieces();
        Assert.Equal(Errno.Ok, bench.Port.Transfer(ranges[0].Address + 8, (5 * Bench.Page) - 16, DmaDirection.ToDevice, mover));

        var expected = new List<(long, int, long)>();
        long position = 0;
        for (int i = 0; i < ranges.Length; i++)
        {
            int length = (int)ranges[i].Length - (i == 1 ? 0 : 8);
            expected.Add((position, length, ranges[i].Memory.Offset + (i == 0 ? 8 : 0)));
            position += length;
        }

        Assert.Equal(expected, mover.Seen);
        bench.AssertClean();
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void A_transfer_from_the_device_lets_the_mover_fill_the_memory(IommuMode mode)
    {
        using var bench = new Bench(mode);
        MemoryRegion region = bench.Region(2);
        DeviceRange range = bench.Map(region, DmaDirection.FromDevice);
        Assert.Equal(Errno.Ok, bench.Port.Transfer(range.Address + 16, 5000, DmaDirection.FromDevice, new Pieces { Fill = 0x5A }));
        Assert.Equal(-1, region.Span(16, 5000).IndexOfAnyExcept((byte)0x5A));
        Assert.Equal(-1, region.Span(0, 16).IndexOfAnyExcept((byte)0));
        Assert.Equal(-1, region.Span(5016, 100).IndexOfAnyExcept((byte)0));
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void A_transfer_ends_with_what_its_mover_answers_first(IommuMode mode)
    {
        using var bench = new Bench(mode);
        DeviceRange range = bench.Map(bench.Region(2));
        Assert.Equal(Errno.EIO, bench.Port.Transfer(range.Address, 100, DmaDirection.ToDevice, new Pieces { Answer = Errno.EIO }));
        Assert.Equal(Errno.EINVAL, bench.Port.Transfer(range.Address, 0, DmaDirection.ToDevice, new Pieces()));
        Assert.Equal(Errno.EINVAL, bench.Port.Transfer(range.Address, 1, DmaDirection.Bidirectional, new Pieces()));
        Assert.Equal(Errno.Ok, bench.Port.Read(0, []));
        bench.AssertClean();
    }

    [Fact]
    public void A_mapping_of_2_MiB_takes_one_entry_and_one_table_walk()
    {
        using var bench = new Bench(IommuMode.Strict);
        MemoryRegion region = bench.NumberedRegion(1024);
        DeviceRange range = bench.Map(region);
        Assert.Equal(0UL, range.Address % (2 << 20));
        for (ulong page = 0; page < 1024; page++)
        {
            byte[] word = new byte[8];
            Assert.Equal(Errno.Ok, bench.Port.Read(range.Address + (page * Bench.Page) + 16, word));
            Assert.Equal((long)(page * Bench.Page) + 16, BinaryPrimitives.ReadInt64LittleEndian(word));
        }

        IommuCounters counters = bench.Iommu.Counters;
        Assert.Equal((2, 2, 1022), (counters.TableWalks, counters.IotlbMisses, counters.IotlbHits));
    }

    [Fact]
    public void A_mapping_that_begins_inside_2_MiB_uses_small_leaves_at_its_ends_only()
    {
        using var bench = new Bench(IommuMode.Strict);
        MemoryRegion region = bench.NumberedRegion(2048);
        DeviceRange range = bench.Map(region, 510, 516);
        byte[] all = new byte[516 * Bench.Page];
        Assert.Equal(Errno.Ok, bench.Port.Read(range.Address, all));
        Assert.True(region.Span(510 * Bench.Page, all.Length).SequenceEqual(all));

        // Pages 510 and 511, 2 MiB, and the pages 1024 and 1025.
        Assert.Equal(5, bench.Iommu.Counters.TableWalks);
        bench.Space.Unmap(range);
        Assert.Equal(Errno.EFAULT, bench.Read(range.Address + (300 * Bench.Page)));
    }

    [Theory]
    [InlineData(0, (2 << 18) + 512 + 1, 2 + 1 + 1)]
    [InlineData((1 << 18) - 513, 513 + (1 << 18) + 512 + 1, 1 + 1 + 1 + 1 + 1)]
    [InlineData(511, 1 << 18, 1 + 511 + 511)]
    public void A_mapping_of_1_GiB_takes_one_entry_and_smaller_ones_at_its_ends(int firstPage, int pages, int entries)
    {
        using var bench = new Bench(new ModelIommuOptions { IotlbEntries = 2048 });
        MemoryRegion region = bench.Region(firstPage + pages);
        for (int round = 0; round < 2; round++)
        {
            DeviceRange range = bench.Map(region, firstPage, pages);
            int[] probes = [0, 1, 2, 511, 512, 513, 514, 515, pages / 2, pages - 514, pages - 513, pages - 512, pages - 2, pages - 1];
            IommuCounters before = bench.Iommu.Counters;
            foreach (int page in probes)
            {
                ulong address = range.Address + ((ulong)page * Bench.Page) + 5;
                Assert.Equal(Errno.Ok, bench.Port.Write(address, BitConverter.GetBytes(page + round)));
                Assert.Equal(page + round, BitConverter.ToInt32(region.Span(((long)firstPage + page) * Bench.Page + 5, 4)));
            }

            // One byte of each 2 MiB and of each page of both ends: every entry that there is.
            for (int page = 0; page < pages; page += page < 1024 || page >= pages - 1024 ? 1 : 256)
                Assert.Equal(Errno.Ok, bench.Read(range.Address + ((ulong)page * Bench.Page)));
            IommuCounters counted = bench.Iommu.Counters.Since(before);
            Assert.Equal((entries, entries), (counted.TableWalks, counted.IotlbMisses));
            bench.Space.Unmap(range);
            Assert.All(probes, page => Assert.Equal(Errno.EFAULT, bench.Read(range.Address + ((ulong)page * Bench.Page))));
        }
    }

    [Fact]
    public void Counts_of_a_premapped_4_KiB_request_are_one_hit_and_nothing_else()
    {
        using var bench = new Bench(IommuMode.Strict);
        DeviceRange range = bench.Map(bench.Region(16));
        byte[] block = new byte[Bench.Page];
        for (ulong i = 0; i < 16; i++)
            bench.Port.Read(range.Address + (i * Bench.Page), block);
        IommuCounters warm = bench.Iommu.Counters;
        for (ulong i = 0; i < 1600; i++)
            bench.Port.Read(range.Address + (i % 16 * Bench.Page), block);
        Assert.Equal(warm with { IotlbHits = warm.IotlbHits + 1600, BytesFromMemory = warm.BytesFromMemory + (1600 * Bench.Page) }, bench.Iommu.Counters);
    }

    [Fact]
    public void Counts_of_a_4_KiB_request_mapped_for_itself_are_a_map_a_walk_and_an_invalidation()
    {
        using var bench = new Bench(IommuMode.Strict);
        MemoryRegion region = bench.Region(16);
        byte[] block = new byte[Bench.Page];
        for (int i = 0; i < 100; i++)
        {
            DeviceRange range = bench.Map(region, i % 16, 1);
            Assert.Equal(Errno.Ok, bench.Port.Read(range.Address, block));
            bench.Space.Unmap(range);
        }

        Assert.Equal(new IommuCounters(100, 100, 100, 100, 0, 100, 100, 100, 0, 0, 0, 0, BytesFromMemory: 100 * Bench.Page), bench.Iommu.Counters);
    }

    [Fact]
    public void An_IOTLB_smaller_than_the_working_set_misses()
    {
        using var bench = new Bench(new ModelIommuOptions { IotlbEntries = 16 });
        DeviceRange range = bench.Map(bench.Region(64));
        for (int round = 0; round < 3; round++)
        {
            for (ulong i = 0; i < 64; i++)
                bench.Read(range.Address + (i * Bench.Page));
        }

        Assert.Equal((192, 0), (bench.Iommu.Counters.IotlbMisses, bench.Iommu.Counters.IotlbHits));
        for (int round = 0; round < 3; round++)
        {
            for (ulong i = 0; i < 16; i++)
                bench.Read(range.Address + (i * Bench.Page));
        }

        Assert.Equal((192 + 16, 32), (bench.Iommu.Counters.IotlbMisses, bench.Iommu.Counters.IotlbHits));
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void Devices_do_not_share_translations(IommuMode mode)
    {
        using var bench = new Bench(mode);
        DeviceRange range = bench.Map(bench.Region(1));
        Assert.Equal(Errno.Ok, bench.Read(range.Address));
        (_, DmaPort other) = bench.Iommu.AddDevice("nvme1");
        Errno status = other.Read(range.Address, new byte[8]);
        IommuAccessReport report = bench.SingleReport();
        Assert.Equal("nvme1", report.Device);
        Assert.Equal(
            mode == IommuMode.Passthrough ? (Errno.Ok, IommuReportKind.Stale) : (Errno.EFAULT, IommuReportKind.Fault),
            (status, report.Kind));
        Assert.Null(report.Purpose);
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void A_DMA_through_live_mappings_allocates_nothing(IommuMode mode)
    {
        using var bench = new Bench(mode);
        DeviceRange range = bench.Map(bench.Region(128));
        byte[] block = new byte[3 * Bench.Page];
        var mover = new Pieces { Record = false };
        Work(100);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Work(10_000);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        bench.AssertClean();

        void Work(int count)
        {
            for (int i = 0; i < count; i++)
            {
                ulong address = range.Address + (ulong)(i % 100 * Bench.Page) + 24;
                bench.Port.Read(address, block);
                bench.Port.Write(address, block);
                bench.Port.Transfer(address, block.Length, DmaDirection.ToDevice, mover);
            }
        }
    }

    [Fact]
    public void Tables_that_become_empty_are_used_again()
    {
        // Addresses march on through the address space, so that each mapping needs a table that no earlier one used.
        using var bench = new Bench(new ModelIommuOptions { ReuseDelay = 1_000_000, HistoryLength = 16 });
        MemoryRegion region = bench.Region(511);
        const int Count = 3000;
        bench.Space.Unmap(bench.Map(region));
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < Count; i++)
            bench.Space.Unmap(bench.Map(region));
        long perMapping = (GC.GetAllocatedBytesForCurrentThread() - before) / Count;
        Assert.True(perMapping < 1000, $"{perMapping} bytes per mapping: a table of 4096 bytes for each is not given back");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void N7_a_space_is_coherent_unless_the_option_says_otherwise_and_syncs_are_counted(bool nonCoherent)
    {
        using var bench = new Bench(new ModelIommuOptions { NonCoherent = nonCoherent });
        Assert.Equal(!nonCoherent, bench.Space.IsCoherent);
        DeviceRange range = bench.Map(bench.Region(2));
        bench.Space.SyncForDevice(range, 0, 512);
        bench.Space.SyncForDevice(range, 512, 512);
        bench.Space.SyncForCpu(range, 0, 4096);
        IommuCounters counters = bench.Iommu.Counters;
        Assert.Equal((2, 1, 5120), (counters.SyncsForDevice, counters.SyncsForCpu, counters.SyncedBytes));
    }

    private sealed class Pieces : IDmaMover
    {
        public List<(long Position, int Length, long FirstNumber)> Seen { get; } = [];

        public byte? Fill { get; init; }

        public Errno Answer { get; init; }

        public bool Record { get; init; } = true;

        public Errno Move(Span<byte> piece, long position)
        {
            if (Record)
                Seen.Add((position, piece.Length, piece.Length >= 8 ? BinaryPrimitives.ReadInt64LittleEndian(piece) : 0));
            if (Fill is { } value)
                piece.Fill(value);
            return Answer;
        }
    }
}
