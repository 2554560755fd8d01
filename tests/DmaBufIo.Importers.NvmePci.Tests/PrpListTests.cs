using DmaBufIo.Importers.NvmePci.Protocol;

namespace DmaBufIo.Importers.NvmePci.Tests;

public sealed class PrpListTests
{
    private const int Shift = 12;
    private const int Page = 1 << Shift;
    private const ulong ListBase = 0x7000_0000;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(511)]
    [InlineData(512)]
    [InlineData(513)]
    [InlineData(514)]
    [InlineData(1023)]
    [InlineData(1024)]
    [InlineData(1025)]
    [InlineData(1535)]
    [InlineData(4096)]
    public void P8_every_byte_is_described_once_and_in_order_for_each_count_of_entries(int entries)
    {
        foreach (int offset in (int[])[0, 4, 512, 4092])
        {
            // The exact fit, one dword less into the last page, and one dword more, which needs one entry more.
            int fit = entries * Page - offset;
            foreach (int length in (int[])[fit, fit - 4, fit + 4])
            {
                if (length > 0)
                    AssertDescribes(3 * Page + offset, length, ListBase);
            }
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(8)]
    [InlineData(4088)]
    public void P7_a_list_that_begins_inside_a_page_ends_with_that_page(int listOffset)
    {
        foreach (int entries in (int[])[3, 4, 510, 511, 512, 513, 514, 1023, 1024])
            AssertDescribes(0, entries * Page, ListBase + (ulong)listOffset);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(8)]
    [InlineData(2048)]
    [InlineData(4088)]
    public void P8_a_contiguous_range_is_described_as_its_pages_one_by_one_would_be(int listOffset)
    {
        ulong[] pages = [.. Enumerable.Range(0, 2100).Select(static i => 0x4000_0000ul + ((ulong)i << Shift))];
        foreach (int entries in (int[])[1, 2, 3, 4, 256, 257, 510, 511, 512, 513, 514, 1023, 1024, 1025, 2050])
        {
            foreach (int offset in (int[])[0, 4, 512, 4092, 5 * Page + 4])
            {
                foreach (int length in (int[])[entries * Page - offset % Page, entries * Page - 8, entries * Page, entries * Page + 4])
                {
                    ulong[] expectedList = new ulong[8 * 512];
                    ulong[] list = new ulong[8 * 512];
                    ulong at = ListBase + (ulong)listOffset;
                    PrpEntries expected = PrpList.Build(pages, Shift, offset, length, expectedList, at);
                    Assert.Equal(expected, PrpList.BuildContiguous(pages[0] + (ulong)offset, Shift, length, list, at));
                    Assert.Equal(expectedList, list);
                }
            }
        }
    }

    [Fact]
    public void P4_PRP2_is_0_when_the_transfer_ends_in_the_first_page() =>
        Assert.Equal(0ul, Build(Page + 1024, Page - 1024, ListBase).Entries.Second);

    [Fact]
    public void P5_a_rest_of_exactly_one_page_is_a_data_entry()
    {
        (PrpEntries entries, ulong[] pages, _) = Build(0, 2 * Page, ListBase);
        Assert.Equal(pages[1], entries.Second);
    }

    [Fact]
    public void P6_an_offset_of_4_makes_4_KiB_need_two_entries_and_8_KiB_a_list()
    {
        (PrpEntries two, ulong[] pages, _) = Build(4, Page, ListBase);
        Assert.Equal(new PrpEntries(pages[0] + 4, pages[1]), two);
        Assert.Equal(ListBase, Build(4, 2 * Page, ListBase).Entries.Second);
    }

    [Fact]
    public void P8_a_list_that_fits_its_page_exactly_has_data_in_its_last_slot()
    {
        (_, ulong[] pages, ulong[] list) = Build(0, 513 * Page, ListBase);
        Assert.Equal(pages[512], list[511]);
        Assert.Equal(0ul, list[512]);
    }

    [Fact]
    public void P8_a_list_that_does_not_fit_its_page_continues_through_its_last_slot()
    {
        (_, ulong[] pages, ulong[] list) = Build(0, 514 * Page, ListBase);
        Assert.Equal(pages[511], list[510]);
        Assert.Equal(ListBase + Page, list[511]);
        Assert.Equal(pages[512], list[512]);
        Assert.Equal(pages[513], list[513]);
    }

    [Theory]
    [InlineData(13)]
    [InlineData(16)]
    public void P1_page_arithmetic_uses_the_page_size_of_the_controller(int shift)
    {
        int size = 1 << shift;
        ulong[] pages = [0x10_0000, 0x50_0000, 0x30_0000, 0x90_0000];
        ulong[] list = new ulong[4];
        Assert.Equal(new PrpEntries(0x50_0000 + 4096, 0), PrpList.Build(pages, shift, size + 4096, size - 4096, list, ListBase));
        Assert.Equal(new PrpEntries(0x10_0000, ListBase), PrpList.Build(pages, shift, 0, 4 * size, list, ListBase));
        Assert.Equal([0x50_0000, 0x30_0000, 0x90_0000, 0], list);
    }

    [Fact]
    public void P8_the_memory_for_a_list_is_enough_and_not_a_page_more()
    {
        for (int entries = 1; entries <= 5000; entries++)
        {
            int bytes = PrpList.MemoryFor(entries, Shift);
            if (bytes < Page)
            {
                bool fits = bytes >= entries * 8 && Page % bytes == 0;
                Assert.True(fits, $"{entries} entries, {bytes} bytes: lists would not fit or would cross a page");
                continue;
            }

            // Each page but the last loses one slot.
            int pages = bytes / Page;
            Assert.Equal(0, bytes % Page);
            Assert.InRange(entries, pages == 1 ? 1 : (pages - 1) * 512 - (pages - 2) + 1, pages * 512 - (pages - 1));
        }
    }

    [Fact]
    public void N4_a_request_near_the_end_of_a_large_buffer_costs_what_one_at_its_start_costs()
    {
        // 1 GiB of pages. Walking there from the start would cost some thousand times as much; a factor of 20 leaves room for caches.
        ulong[] pages = [.. Enumerable.Range(0, 1 << 18).Select(static i => (ulong)i << Shift)];
        ulong[] list = new ulong[512];
        long start = Fastest(() => PrpList.Build(pages, Shift, 0, 16 * Page, list, ListBase));
        long end = Fastest(() => PrpList.Build(pages, Shift, (1L << 30) - 16 * Page, 16 * Page, list, ListBase));
        Assert.True(end <= Math.Max(start, 1) * 20, $"{end} ticks at the end of the buffer, {start} at its start");
    }

    private static long Fastest(Action action)
    {
        long best = long.MaxValue;
        for (int round = 0; round < 200; round++)
        {
            long started = System.Diagnostics.Stopwatch.GetTimestamp();
            for (int i = 0; i < 20; i++)
                action();
            best = Math.Min(best, System.Diagnostics.Stopwatch.GetTimestamp() - started);
        }

        return best;
    }

    private static (PrpEntries Entries, ulong[] Pages, ulong[] List) Build(long offset, int length, ulong listAddress)
    {
        int count = (int)((offset + length + Page - 1) >> Shift) + 1;

        // No two neighbours, so that a wrong order or a skipped page shows.
        ulong[] pages = [.. Enumerable.Range(0, count).Select(static i => (ulong)(i * 3 + 1) << Shift)];
        ulong[] list = new ulong[16 * 512];
        return (PrpList.Build(pages, Shift, offset, length, list, listAddress), pages, list);
    }

    // The device's side, written from the rules and independent of the builder: follows the entries and lists the bytes they describe.
    private static void AssertDescribes(long offset, int length, ulong listAddress)
    {
        (PrpEntries entries, ulong[] pages, ulong[] list) = Build(offset, length, listAddress);
        long left = length;
        long position = offset;
        Take(entries.First);
        if (left == 0)
        {
            Assert.Equal(0ul, entries.Second);
            return;
        }

        if (left <= Page)
        {
            Take(entries.Second);
            Assert.Equal(0, left);
            return;
        }

        Assert.Equal(listAddress, entries.Second);
        ulong at = entries.Second;
        while (left > 0)
        {
            bool lastSlot = (at & (Page - 1)) == Page - 8;
            ulong entry = list[(int)((at - listAddress) / 8)];
            if (lastSlot && left > Page)
            {
                Assert.True((entry & (Page - 1)) == 0, $"the next list page at {entry:x} has an offset");
                at = entry;
                continue;
            }

            Take(entry);
            at += 8;
        }

        void Take(ulong entry)
        {
            Assert.Equal(pages[position >> Shift] + (ulong)(position & (Page - 1)), entry);
            long part = Math.Min(left, Page - (position & (Page - 1)));
            position += part;
            left -= part;
        }
    }
}
