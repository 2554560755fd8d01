using DmaBufIo.Dma;
using DmaBufIo.Pci.Model.Tests.Host;

namespace DmaBufIo.Pci.Model.Tests;

public sealed class PrpRuleTests
{
    private const byte Write = 1;
    private const byte Read = 2;

    /// <summary>Every edge count of list entries with every list offset.</summary>
    public static TheoryData<int, int> ListEdges
    {
        get
        {
            var rows = new TheoryData<int, int>();
            foreach (int entries in new[] { 511, 512, 513, 1023, 1024 })
            {
                foreach (int offset in new[] { 0, 8, 4088 })
                    rows.Add(entries, offset);
            }

            return rows;
        }
    }

    private static NvmeModelOptions Large(int mdts = 0) => new() { SizeBytes = 16 << 20, Mdts = mdts, OwnThread = false };

    private static byte[] RandomBytes(int length)
    {
        byte[] data = new byte[length];
        new Random(length).NextBytes(data);
        return data;
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(4)]
    public void P1_page_arithmetic_uses_the_page_size_of_CC_MPS(int mps)
    {
        using var host = new NvmeHost(Large(), mps: mps);
        HostQueue queue = host.CreateQueue();

        // Two controller pages: with larger pages than the host's, PRP2 is data although the transfer spans many pages of 4 KiB.
        int length = host.PageSize * 2;
        ulong[] pages = host.ScatteredPages(2);
        byte[] data = RandomBytes(length);
        host.Scatter(pages, 0, data);
        Assert.Equal(0, queue.Run(Command.Io(Write, 0, length / 512, pages[0], pages[1])).Code);
        ulong[] target = host.ScatteredPages(2);
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, length / 512, target[0], target[1])).Code);
        Assert.Equal(data, host.Gather(target, 0, length));
        Assert.Empty(host.Model.Violations);
    }

    [Fact]
    public void P1_lists_are_as_long_as_a_page_of_CC_MPS()
    {
        using var host = new NvmeHost(Large(), mps: 1);
        HostQueue queue = host.CreateQueue();
        ulong[] pages = host.ScatteredPages(700);
        (ulong prp1, ulong prp2) = host.BuildPrp(pages, 0);
        byte[] data = RandomBytes(700 * 8192);
        host.Scatter(pages, 0, data);
        Assert.Equal(0, queue.Run(Command.Io(Write, 0, data.Length / 512, prp1, prp2)).Code);
        Array.Clear(data, 0, 512);
        host.Fabric.Memory(pages[0], 512).Clear();
        Assert.Equal(0, queue.Run(Command.Io(Read, 1, data.Length / 512 - 1, prp1 + 512, prp2)).Code);
        Assert.Equal(data, host.Gather(pages, 0, data.Length));
    }

    [Theory]
    [InlineData(1ul, 0ul)]
    [InlineData(2ul, 0ul)]
    [InlineData(0ul, 1ul)]
    [InlineData(0ul, 3ul)]
    public void P2_bits_1_and_0_of_an_entry_are_zero(ulong first, ulong second)
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong[] pages = host.ScatteredPages(2);
        Completion completion = queue.Run(Command.Io(Read, 0, 16, pages[0] | first, pages[1] | second));
        Assert.Equal(0x13, completion.Code);
        Assert.True(completion.DoNotRetry);
        NvmeViolation violation = host.OnlyViolation("P2");
        Assert.Equal(first != 0 ? pages[0] | first : pages[1] | second, violation.Address);
        Assert.Equal((Read, 1, completion.Id), (violation.Opcode, violation.QueueId, (ushort)violation.CommandId));
    }

    [Fact]
    public void P2_bits_1_and_0_of_a_list_entry_are_zero()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong[] pages = host.ScatteredPages(4);
        pages[2] |= 2;
        (ulong prp1, ulong prp2) = host.BuildPrp(pages, 0);
        Assert.Equal(0x13, queue.Run(Command.Io(Read, 0, 32, prp1, prp2)).Code);
        Assert.Equal(pages[2], host.OnlyViolation("P2").Address);
    }

    [Fact]
    public void P2_a_lenient_controller_ignores_the_low_bits()
    {
        using var host = new NvmeHost(Large() with { Strict = false });
        HostQueue queue = host.CreateQueue();
        ulong[] pages = host.ScatteredPages(2);
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, 16, pages[0] | 1, pages[1] | 3)).Code);
        Assert.Empty(host.Model.Violations);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(4)]
    [InlineData(512)]
    [InlineData(3584)]
    public void P3_PRP1_may_have_any_dword_offset(int offset)
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        byte[] data = RandomBytes(512);
        ulong page = host.Page(0xCC);
        data.CopyTo(host.Fabric.Memory(page + (ulong)offset, 512));
        Assert.Equal(0, queue.Run(Command.Io(Write, 3, 1, page + (ulong)offset)).Code);
        host.Fabric.Memory(page, 4096).Fill(0xCC);
        Assert.Equal(0, queue.Run(Command.Io(Read, 3, 1, page + (ulong)offset)).Code);
        byte[] expected = new byte[4096];
        Array.Fill(expected, (byte)0xCC);
        data.CopyTo(expected.AsSpan(offset));
        Assert.Equal(expected, host.Fabric.Memory(page, 4096).ToArray());
    }

    [Theory]
    [InlineData(0, 8)]
    [InlineData(2048, 4)]
    [InlineData(3584, 1)]
    public void P4_PRP2_is_zero_when_the_transfer_ends_in_PRP1s_page(int offset, int blocks)
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong page = host.Page();
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, blocks, page + (ulong)offset)).Code);
        Assert.Equal(0x02, queue.Run(Command.Io(Read, 0, blocks, page + (ulong)offset, host.Page())).Code);
        host.OnlyViolation("P4");
    }

    [Fact]
    public void P4_a_lenient_controller_ignores_PRP2_when_it_is_reserved()
    {
        using var host = new NvmeHost(Large() with { Strict = false });
        HostQueue queue = host.CreateQueue();
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, 8, host.Page(), 0xDEAD_BEEF)).Code);
    }

    [Theory]
    [InlineData(0, 16)] // exactly one page remains
    [InlineData(0, 9)]
    [InlineData(4, 8)] // an offset pushes one block into the second page
    [InlineData(3584, 9)]
    public void P5_PRP2_is_data_when_at_most_one_page_remains(int offset, int blocks)
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong[] pages = host.ScatteredPages(2);
        byte[] data = RandomBytes(blocks * 512);
        host.Scatter(pages, offset, data);
        Assert.Equal(0, queue.Run(Command.Io(Write, 8, blocks, pages[0] + (ulong)offset, pages[1])).Code);
        ulong[] target = host.ScatteredPages(2);
        Assert.Equal(0, queue.Run(Command.Io(Read, 8, blocks, target[0] + (ulong)offset, target[1])).Code);
        Assert.Equal(data, host.Gather(target, offset, data.Length));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void P5_a_second_data_entry_with_an_offset_is_refused(bool strict)
    {
        using var host = new NvmeHost(Large() with { Strict = strict });
        HostQueue queue = host.CreateQueue();
        ulong[] pages = host.ScatteredPages(2);
        Assert.Equal(0x13, queue.Run(Command.Io(Read, 0, 16, pages[0], pages[1] + 512)).Code);
        Assert.Equal(pages[1] + 512, host.OnlyViolation("P5").Address);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public void P6_a_list_pointer_is_qword_aligned(int low)
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        (ulong prp1, ulong prp2) = host.BuildPrp(host.ScatteredPages(3), 0);
        Assert.Equal(0x13, queue.Run(Command.Io(Read, 0, 24, prp1, prp2 + (ulong)low)).Code);
        Assert.Equal(prp2 + (ulong)low, host.OnlyViolation("P6").Address);
    }

    [Fact]
    public void P6_an_offset_in_PRP1_makes_two_pages_of_data_need_a_list()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong[] pages = host.ScatteredPages(3);
        byte[] data = RandomBytes(8192);
        host.Scatter(pages, 4, data);
        (ulong prp1, ulong prp2) = host.BuildPrp(pages, 4);
        Assert.Equal(0, queue.Run(Command.Io(Write, 0, 16, prp1, prp2)).Code);
        ulong[] target = host.ScatteredPages(2);
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, 16, target[0], target[1])).Code);
        Assert.Equal(data, host.Gather(target, 0, 8192));
    }

    [Theory]
    [MemberData(nameof(ListEdges))]
    public void P8_a_list_that_does_not_fit_its_page_continues_through_its_last_slot(int listEntries, int listOffset)
    {
        using var host = new NvmeHost(Large());
        HostQueue queue = host.CreateQueue();
        int count = listEntries + 1;
        ulong[] pages = host.ScatteredPages(count);
        byte[] data = RandomBytes(count * 4096 - 512);
        host.Scatter(pages, 512, data);
        (ulong prp1, ulong prp2) = host.BuildPrp(pages, 512, listOffset);
        Assert.Equal(0, queue.Run(Command.Io(Write, 5, data.Length / 512, prp1, prp2)).Code);
        foreach (ulong page in pages)
            host.Fabric.Memory(page, 4096).Clear();
        Assert.Equal(0, queue.Run(Command.Io(Read, 5, data.Length / 512, prp1, prp2)).Code);
        Assert.Equal(data, host.Gather(pages, 512, data.Length));
        Assert.Empty(host.Model.Violations);
    }

    [Theory]
    [InlineData(511, 0, 1)]
    [InlineData(512, 0, 1)]
    [InlineData(513, 0, 2)]
    [InlineData(1023, 0, 2)]
    [InlineData(1024, 0, 3)]
    [InlineData(511, 8, 1)]
    [InlineData(512, 8, 2)]
    [InlineData(2, 4088, 2)]
    public void P7_a_list_ends_with_its_page_and_is_read_by_one_DMA_per_page(int listEntries, int listOffset, int expectedReads)
    {
        using var host = new NvmeHost(Large());
        HostQueue queue = host.CreateQueue();
        (ulong prp1, ulong prp2) = host.BuildPrp(host.ScatteredPages(listEntries + 1), 0, listOffset);
        host.Fabric.ForgetAccesses();
        Assert.Equal(0, queue.Run(Command.Io(Write, 0, (listEntries + 1) * 8, prp1, prp2)).Code);

        // The lists were allocated last, so only they lie above the first of them.
        DmaAccess[] reads = [.. host.Fabric.Accesses.Where(a => a.Address >= prp2)];
        Assert.Equal(expectedReads, reads.Length);
        Assert.All(reads, a => Assert.True((a.Address & 4095) + (ulong)a.Length <= 4096, "a list read leaves its page"));
    }

    [Fact]
    public void P8_the_next_list_page_has_no_offset()
    {
        using var host = new NvmeHost(Large());
        HostQueue queue = host.CreateQueue();
        ulong[] pages = host.ScatteredPages(3);
        ulong list = host.Page();
        ulong next = host.Page();
        host.WriteEntry(list, 511, next + 8);
        host.WriteEntry(next, 1, pages[1]);
        host.WriteEntry(next, 2, pages[2]);
        Assert.Equal(0x13, queue.Run(Command.Io(Read, 0, 24, pages[0], list + 4088)).Code);
        Assert.Equal(next + 8, host.OnlyViolation("P8").Address);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    public void P9_list_entries_have_no_offset(int at)
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong[] pages = host.ScatteredPages(4);
        pages[at + 1] += 512;
        (ulong prp1, ulong prp2) = host.BuildPrp(pages, 0);
        Assert.Equal(0x13, queue.Run(Command.Io(Read, 0, 32, prp1, prp2)).Code);
        Assert.Equal(pages[at + 1], host.OnlyViolation("P9").Address);
    }

    [Fact]
    public void P9_only_the_last_entry_is_used_in_part()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong[] pages = host.ScatteredPages(4);
        foreach (ulong page in pages)
            host.Fabric.Memory(page, 4096).Fill(0xCC);
        (ulong prp1, ulong prp2) = host.BuildPrp(pages, 1024);
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, 24, prp1, prp2)).Code);
        Assert.All(host.Gather(pages, 1024, 24 * 512), b => Assert.Equal(0, b));
        Assert.All(host.Fabric.Memory(pages[0], 1024).ToArray(), b => Assert.Equal(0xCC, b));
        Assert.All(host.Fabric.Memory(pages[3] + 1024, 3072).ToArray(), b => Assert.Equal(0xCC, b));
    }

    [Fact]
    public void P11_neighbouring_pages_are_moved_by_one_DMA()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong block = host.Fabric.Allocate(16 * 4096);
        ulong[] pages = [.. Enumerable.Range(0, 16).Select(i => block + (ulong)i * 4096)];
        (ulong prp1, ulong prp2) = host.BuildPrp(pages, 0);
        host.Fabric.ForgetAccesses();
        Assert.Equal(0, queue.Run(Command.Io(Write, 0, 128, prp1, prp2)).Code);
        Assert.Single(host.Fabric.Accesses, a => a == new DmaAccess(DmaDirection.ToDevice, block, 65536));
        Assert.Equal(4, host.Fabric.Accesses.Count); // command, list, data, completion
    }

    [Theory]
    [InlineData(1, 16)]
    [InlineData(5, 256)]
    public void P12_a_transfer_above_MDTS_is_an_invalid_field(int mdts, int limitInBlocks)
    {
        using var host = new NvmeHost(Large(mdts));
        HostQueue queue = host.CreateQueue();
        Assert.Equal(mdts, host.Identify(1)[77]);
        (ulong prp1, ulong prp2) = host.BuildPrp(host.ScatteredPages(limitInBlocks / 8), 0);
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, limitInBlocks, prp1, prp2)).Code);
        Assert.Empty(host.Model.Violations);
        Assert.Equal(0x02, queue.Run(Command.Io(Read, 0, limitInBlocks + 1, prp1, prp2)).Code);
        host.OnlyViolation("P12");
    }

    [Fact]
    public void P12_MDTS_counts_4_KiB_units_whatever_CC_MPS_is()
    {
        using var host = new NvmeHost(Large(1), mps: 4);
        HostQueue queue = host.CreateQueue();
        ulong page = host.Page();
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, 16, page)).Code);
        Assert.Equal(0x02, queue.Run(Command.Io(Read, 0, 17, page)).Code);
    }

    [Fact]
    public void P12_without_MDTS_the_longest_command_is_served()
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 40 << 20, Mdts = 0, OwnThread = false });
        HostQueue queue = host.CreateQueue();

        // 65,536 blocks: every entry names the same page, so the arena need not hold 32 MiB.
        ulong page = host.Page(0xAB);
        ulong[] pages = new ulong[8192];
        Array.Fill(pages, page);
        (ulong prp1, ulong prp2) = host.BuildPrp(pages, 0);
        Assert.Equal(0, queue.Run(Command.Io(Write, 100, 65536, prp1, prp2)).Code);
        host.Fabric.Memory(page, 4096).Clear();
        Assert.Equal(0, queue.Run(Command.Io(Read, 65535 + 100, 1, page)).Code);
        Assert.All(host.Fabric.Memory(page, 512).ToArray(), b => Assert.Equal(0xAB, b));
        Assert.Empty(host.Model.Violations);
    }

    [Fact]
    public void P13_queues_are_contiguous_and_page_aligned()
    {
        using var host = new NvmeHost();
        ulong page = host.Page();
        Assert.Equal(0x02, host.CreateCompletionQueue(1, 16, page, flags: 0).Code);
        Assert.Equal(0x13, host.CreateCompletionQueue(1, 16, page + 64).Code);
        Assert.Equal(0, host.CreateCompletionQueue(1, 16, page).Code);
        Assert.Equal(0x02, host.CreateSubmissionQueue(1, 16, page, 1, flags: 0).Code);
        Assert.Equal(0x13, host.CreateSubmissionQueue(1, 16, page + 2048, 1).Code);
        Assert.Equal(["P13", "P13", "P13", "P13"], host.Model.Violations.Select(v => v.Rule));
    }

    [Theory]
    [InlineData(0x40)]
    [InlineData(0x80)]
    public void P14_admin_commands_use_PRP(byte flags)
    {
        using var host = new NvmeHost();
        Assert.Equal(0x02, host.Admin.Run(new Command { Opcode = 6, Flags = flags, Prp1 = host.Page(), Cdw10 = 1 }).Code);
        host.OnlyViolation("P14");
    }

    [Fact]
    public void S7_SGL_is_refused_while_it_is_not_advertised()
    {
        using var host = new NvmeHost();
        Assert.Equal(0u, BitConverter.ToUInt32(host.Identify(1), 536));
        HostQueue queue = host.CreateQueue();
        Command command = Command.Io(Read, 0, 1, host.Page());
        command.Flags = 0x40;
        Assert.Equal(0x02, queue.Run(command).Code);
        host.OnlyViolation("S7");
    }

    [Fact]
    public void P15_the_metadata_pointer_is_dword_aligned()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        Command command = Command.Io(Read, 0, 1, host.Page());
        command.Mptr = host.Page() + 2;
        Assert.Equal(0x02, queue.Run(command).Code);
        host.OnlyViolation("P15");
    }

    [Fact]
    public void A_page_that_holds_a_list_and_its_slack_is_read_no_further_than_needed()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong[] pages = host.ScatteredPages(4);
        (ulong prp1, ulong prp2) = host.BuildPrp(pages, 0, listOffset: 8);
        host.Fabric.ForgetAccesses();
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, 32, prp1, prp2)).Code);
        Assert.Contains(new DmaAccess(DmaDirection.ToDevice, prp2, 24), host.Fabric.Accesses);
    }
}
