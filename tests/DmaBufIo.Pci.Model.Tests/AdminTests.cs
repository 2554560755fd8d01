using System.Buffers.Binary;
using System.Text;
using DmaBufIo.Pci.Model.Tests.Host;

namespace DmaBufIo.Pci.Model.Tests;

public sealed class AdminTests
{
    [Fact]
    public void Identify_controller_says_what_the_controller_does()
    {
        using var host = new NvmeHost();
        byte[] data = host.Identify(1);
        Assert.Equal(host.Model.Identity.Vendor, BinaryPrimitives.ReadUInt16LittleEndian(data));
        Assert.Equal("DmaBufIo NVMe model", Encoding.ASCII.GetString(data, 24, 40).TrimEnd());
        Assert.Equal(20, Encoding.ASCII.GetString(data, 4, 20).TrimEnd().Length);
        Assert.Equal(5, data[77]);
        Assert.Equal(0x00010400u, BinaryPrimitives.ReadUInt32LittleEndian(data.AsSpan(80)));
        Assert.Equal(1, data[111]); // I/O controller
        Assert.Equal(3, data[259]); // AERL
        Assert.Equal(0x06, data[261] & 0x06); // effects log, extended data
        Assert.Equal((0x66, 0x44), (data[512], data[513]));
        Assert.Equal(1u, BinaryPrimitives.ReadUInt32LittleEndian(data.AsSpan(516)));
        Assert.Equal(0x0C, BinaryPrimitives.ReadUInt16LittleEndian(data.AsSpan(520)));
        Assert.Equal(0x07, data[525]);
        Assert.StartsWith("nqn.", Encoding.UTF8.GetString(data, 768, 256));
    }

    [Theory]
    [InlineData(512, 9)]
    [InlineData(4096, 12)]
    public void Identify_namespace_has_capacity_format_and_deallocation(int lba, int shift)
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, LbaSize = lba, OwnThread = false });
        byte[] data = host.Identify(0, nsid: 1);
        for (int field = 0; field < 24; field += 8)
            Assert.Equal((1ul << 20) >> shift, BinaryPrimitives.ReadUInt64LittleEndian(data.AsSpan(field)));
        Assert.Equal((0, 0), (data[25], data[26]));
        Assert.Equal(shift, data[130]);
        Assert.Equal(1, data[33] & 7); // deallocated blocks read as zeros
        Assert.Equal(0, data[99]);
    }

    [Fact]
    public void Identify_lists_namespace_1_and_its_identifiers()
    {
        using var host = new NvmeHost();
        byte[] list = host.Identify(2);
        Assert.Equal(1u, BinaryPrimitives.ReadUInt32LittleEndian(list));
        Assert.All(list.Skip(4), b => Assert.Equal(0, b));
        Assert.All(host.Identify(2, nsid: 1), b => Assert.Equal(0, b));
        byte[] descriptors = host.Identify(3, nsid: 1);
        Assert.Equal((2, 16, 3, 16, 0), (descriptors[0], descriptors[1], descriptors[20], descriptors[21], descriptors[40]));
        Assert.Contains(descriptors[4..20], b => b != 0);
        Assert.Equal(host.Identify(0, nsid: 1)[104..120], descriptors[4..20]);
        Assert.All(host.Identify(6), b => Assert.Equal(0, b));
        Assert.Empty(host.Model.Violations);
    }

    [Theory]
    [InlineData(0u, 0u, 0x0Bu)]
    [InlineData(0u, 2u, 0x0Bu)]
    [InlineData(0u, 0xFFFFFFFFu, 0x0Bu)]
    [InlineData(3u, 2u, 0x0Bu)]
    [InlineData(2u, 0xFFFFFFFEu, 0x0Bu)]
    [InlineData(1u, 1u, 0x02u)]
    [InlineData(0x10u, 0u, 0x02u)]
    [InlineData(0x55u, 0u, 0x02u)]
    public void Identify_refuses_what_is_not_there(uint structure, uint nsid, uint code)
    {
        using var host = new NvmeHost();
        host.Identify(structure, nsid, (int)code);
    }

    [Fact]
    public void Identify_refuses_a_command_set_that_is_not_there()
    {
        using var host = new NvmeHost();
        host.Identify(6, 0, 0x02, cdw11: 2u << 24);
    }

    [Fact]
    public void Identify_data_may_begin_inside_a_page()
    {
        using var host = new NvmeHost();
        ulong[] pages = host.ScatteredPages(2);
        byte[] expected = host.Identify(1);
        Assert.Equal(0, host.Admin.Run(new Command { Opcode = 6, Cdw10 = 1, Prp1 = pages[0] + 2048, Prp2 = pages[1] }).Code);
        Assert.Equal(expected, host.Gather(pages, 2048, 4096));
    }

    [Fact]
    public void Creating_a_completion_queue_checks_identifier_size_and_vector()
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, MaxQueues = 4, MaxQueueEntries = 64, OwnThread = false });
        ulong page = host.Page();
        Assert.Equal(0x101, host.CreateCompletionQueue(0, 16, page).Code);
        Assert.Equal(0x101, host.CreateCompletionQueue(5, 16, page).Code);
        Assert.Equal(0x102, host.CreateCompletionQueue(1, 1, page).Code);
        Assert.Equal(0x102, host.CreateCompletionQueue(1, 65, page).Code);
        Assert.Equal(0x108, host.CreateCompletionQueue(1, 16, page, flags: 3, vector: 5).Code);
        Assert.Equal(0, host.CreateCompletionQueue(1, 64, page, flags: 3, vector: 4).Code);
        Assert.Equal(0x101, host.CreateCompletionQueue(1, 16, page).Code);
    }

    [Fact]
    public void Creating_a_submission_queue_checks_identifier_size_and_completion_queue()
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, MaxQueues = 4, MaxQueueEntries = 64, OwnThread = false });
        ulong page = host.Page();
        Assert.Equal(0, host.CreateCompletionQueue(2, 16, host.Page()).Code);
        Assert.Equal(0x101, host.CreateSubmissionQueue(0, 16, page, 2).Code);
        Assert.Equal(0x101, host.CreateSubmissionQueue(5, 16, page, 2).Code);
        Assert.Equal(0x101, host.CreateSubmissionQueue(1, 16, page, 0).Code);
        Assert.Equal(0x101, host.CreateSubmissionQueue(1, 16, page, 5).Code);
        Assert.Equal(0x100, host.CreateSubmissionQueue(1, 16, page, 3).Code);
        Assert.Equal(0x102, host.CreateSubmissionQueue(1, 1, page, 2).Code);
        Assert.Equal(0x102, host.CreateSubmissionQueue(1, 65, page, 2).Code);
        Assert.Equal(0, host.CreateSubmissionQueue(1, 16, page, 2).Code);
        Assert.Equal(0x101, host.CreateSubmissionQueue(1, 16, page, 2).Code);
    }

    [Fact]
    public void A_completion_queue_is_deleted_after_its_submission_queues()
    {
        using var host = new NvmeHost();
        host.CreateQueue(1);
        Assert.Equal(0, host.CreateSubmissionQueue(2, 16, host.Page(), 1).Code);
        Assert.Equal(0x10C, host.Delete(4, 1).Code);
        Assert.Equal(0, host.Delete(0, 1).Code);
        Assert.Equal(0x10C, host.Delete(4, 1).Code);
        Assert.Equal(0, host.Delete(0, 2).Code);
        Assert.Equal(0, host.Delete(4, 1).Code);
        Assert.Equal(0x101, host.Delete(4, 1).Code);
        Assert.Equal(0x101, host.Delete(0, 1).Code);
        Assert.Equal(0x101, host.Delete(0, 0).Code);
        Assert.Equal(0x101, host.Delete(4, 0).Code);
        Assert.Equal(0x101, host.Delete(0, 9999).Code);
    }

    [Fact]
    public void The_number_of_queues_is_granted_up_to_the_maximum_and_only_before_the_first_is_created()
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, MaxQueues = 8, OwnThread = false });
        Assert.Equal(0x00070007u, host.GetFeature(7).Result);
        Assert.Equal(0x00070007u, host.SetFeature(7, 0x00FF00FF).Result);
        Assert.Equal(0x00020001u, host.SetFeature(7, 0x00020001).Result);
        Assert.Equal(0x00020001u, host.GetFeature(7).Result);
        Assert.Equal(0x02, host.SetFeature(7, 0xFFFF).Code);
        Assert.Equal(0x02, host.SetFeature(7, 0xFFFF0000).Code);
        ulong page = host.Page();
        Assert.Equal(0, host.CreateCompletionQueue(3, 16, page).Code);
        Assert.Equal(0x0C, host.SetFeature(7, 3).Code);
        Assert.Equal(0x101, host.CreateSubmissionQueue(3, 16, page, 3).Code);
        Assert.Equal(0, host.CreateSubmissionQueue(2, 16, page, 3).Code);
    }

    [Theory]
    [InlineData(0x01, 0x0402_0105u)]
    [InlineData(0x02, 0x20u)]
    [InlineData(0x05, 0x1234u)]
    [InlineData(0x06, 0u)]
    [InlineData(0x08, 0x0102u)]
    [InlineData(0x09, 0x10003u)]
    [InlineData(0x0A, 1u)]
    [InlineData(0x0B, 0x1Fu)]
    public void A_feature_that_was_set_is_read_back(byte feature, uint value)
    {
        using var host = new NvmeHost();
        Assert.Equal(0, host.SetFeature(feature, value).Code);
        Completion completion = host.GetFeature(feature, feature == 9 ? value & 0xFFFF : 0);
        Assert.Equal((0, value), (completion.Code, completion.Result));
        Assert.Empty(host.Model.Violations);
    }

    [Theory]
    [InlineData(0x00, 0u)]
    [InlineData(0x03, 0u)]
    [InlineData(0x0C, 0u)]
    [InlineData(0x0F, 0u)]
    [InlineData(0x02, 1u)] // a power state that does not exist
    [InlineData(0x04, 0x00010000u)] // a sensor that does not exist
    [InlineData(0x09, 99u)] // a vector that does not exist
    [InlineData(0x0B, 0x100u)] // a notice that is not advertised
    public void A_feature_or_value_that_does_not_exist_is_an_invalid_field(byte feature, uint value)
    {
        using var host = new NvmeHost();
        Assert.Equal(0x02, host.SetFeature(feature, value).Code);
    }

    [Fact]
    public void Features_are_not_saveable_nor_per_namespace_and_Select_is_not_supported()
    {
        using var host = new NvmeHost();
        Assert.Equal(0x10D, host.Admin.Run(new Command { Opcode = 9, Cdw10 = 1 | (1u << 31) }).Code);
        Assert.Equal(0x10F, host.SetFeature(1, 0, nsid: 1).Code);
        Assert.Equal(0x02, host.Admin.Run(new Command { Opcode = 10, Cdw10 = 1 | (1u << 8) }).Code);
        Assert.Equal(0x02, host.GetFeature(0x30).Code);
    }

    [Fact]
    public void Temperature_thresholds_are_kept_apart_and_raise_an_event()
    {
        using var host = new NvmeHost();
        Assert.Equal(343u, host.GetFeature(4).Result);
        Assert.Equal(0, host.SetFeature(4, (1u << 20) | 280).Code);
        Assert.Equal(280u, host.GetFeature(4, 1u << 20).Result);
        Assert.Equal(343u, host.GetFeature(4).Result);
        Assert.Equal(0, host.LogPage(2, 512)[0]);
        Assert.Equal(0, host.SetFeature(0x0B, 2).Code);
        ushort request = host.Admin.Submit(new Command { Opcode = 0x0C });
        host.Model.Advance();
        Assert.False(host.Admin.TryReap(out _));
        ushort setting = host.Admin.Submit(new Command { Opcode = 9, Cdw10 = 4, Cdw11 = 300 });
        Assert.Equal(setting, host.Admin.Reap().Id);
        Completion completion = host.Admin.Reap();
        Assert.Equal(request, completion.Id);
        Assert.Equal(0x02_01_01u, completion.Result); // health, temperature, log page 02h
        Assert.Equal(2, host.LogPage(2, 512)[0]);
    }

    [Fact]
    public void A_controller_without_a_volatile_write_cache_has_no_such_feature()
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 4096, VolatileWriteCache = false, OwnThread = false });
        Assert.Equal(0, host.Identify(1)[525] & 1);
        Assert.Equal(0x02, host.SetFeature(6, 1).Code);
        Assert.Equal(0x02, host.GetFeature(6).Code);
    }

    [Fact]
    public void Failed_commands_are_in_the_error_log_newest_first()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        Completion first = host.GetFeature(0x30);
        Completion second = queue.Run(Command.Io(2, 1 << 20, 1, host.Page()));
        Assert.True(first.More && second.More && first.DoNotRetry && second.DoNotRetry);
        byte[] log = host.LogPage(1, 192);
        Assert.Equal(2ul, BinaryPrimitives.ReadUInt64LittleEndian(log));
        Assert.Equal(1, BinaryPrimitives.ReadUInt16LittleEndian(log.AsSpan(8)));
        Assert.Equal(second.Id, BinaryPrimitives.ReadUInt16LittleEndian(log.AsSpan(10)));
        Assert.Equal(second.Status << 1, BinaryPrimitives.ReadUInt16LittleEndian(log.AsSpan(12)));
        Assert.Equal(1ul << 20, BinaryPrimitives.ReadUInt64LittleEndian(log.AsSpan(16)));
        Assert.Equal(1u, BinaryPrimitives.ReadUInt32LittleEndian(log.AsSpan(24)));
        Assert.Equal(1ul, BinaryPrimitives.ReadUInt64LittleEndian(log.AsSpan(64)));
        Assert.Equal(0, BinaryPrimitives.ReadUInt16LittleEndian(log.AsSpan(72)));
        Assert.Equal(first.Id, BinaryPrimitives.ReadUInt16LittleEndian(log.AsSpan(74)));
        Assert.All(log.Skip(128), b => Assert.Equal(0, b));
        Assert.Equal(2ul, BinaryPrimitives.ReadUInt64LittleEndian(host.LogPage(2, 512).AsSpan(176)));
    }

    [Fact]
    public void The_error_log_keeps_the_newest_64()
    {
        using var host = new NvmeHost();
        for (int i = 0; i < 70; i++)
            host.GetFeature(0x30);
        byte[] log = host.LogPage(1, 4096);
        for (int i = 0; i < 64; i++)
            Assert.Equal((ulong)(70 - i), BinaryPrimitives.ReadUInt64LittleEndian(log.AsSpan(i * 64)));
    }

    [Fact]
    public void The_effects_log_names_exactly_the_commands_that_are_served()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        byte[] log = host.LogPage(5, 4096);
        for (int opcode = 0; opcode < 256; opcode++)
        {
            bool admin = (log[opcode * 4] & 1) != 0;
            bool io = (log[1024 + opcode * 4] & 1) != 0;

            // A fused bit that is not supported makes every known command fail, without executing it.
            Assert.Equal(admin ? 0x02 : 0x01, host.Admin.Run(new Command { Opcode = (byte)opcode, Flags = 1 }).Code);
            Assert.Equal(io ? 0x02 : 0x01, queue.Run(new Command { Opcode = (byte)opcode, Flags = 1, Nsid = 1 }).Code);
        }

        Assert.Equal([0, 1, 2, 8, 9], Enumerable.Range(0, 256).Where(o => log[1024 + o * 4] != 0));
        Assert.Equal([1, 8, 9], Enumerable.Range(0, 256).Where(o => (log[1024 + o * 4] & 2) != 0));
    }

    [Fact]
    public void Log_pages_can_be_read_in_parts_and_unknown_ones_are_refused()
    {
        using var host = new NvmeHost();
        byte[] whole = host.LogPage(5, 4096);
        Assert.Equal(whole[1024..1536], host.LogPage(5, 512, offset: 1024));
        Assert.Equal(1, host.LogPage(3, 512)[0]);
        byte[] tail = host.LogPage(3, 64, offset: 480);
        Assert.All(tail, b => Assert.Equal(0, b));
        host.LogPage(5, 64, offset: 4100, expectedCode: 0x02);
        host.LogPage(5, 64, offset: 2, expectedCode: 0x02);
        host.LogPage(4, 64, expectedCode: 0x109);
        host.LogPage(0x80, 64, expectedCode: 0x109);
        Assert.Equal(0x02, host.Admin.Run(new Command { Opcode = 2, Nsid = 1, Prp1 = host.Page(), Cdw10 = 2 | (127u << 16) }).Code);
    }

    [Fact]
    public void The_health_log_counts_commands_and_data()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong page = host.Page();
        for (int i = 0; i < 3; i++)
            queue.Run(Command.Io(2, 0, 8, page));
        queue.Run(Command.Io(1, 0, 8, page));
        byte[] log = host.LogPage(2, 512);
        Assert.Equal(1ul, BinaryPrimitives.ReadUInt64LittleEndian(log.AsSpan(32)));
        Assert.Equal(3ul, BinaryPrimitives.ReadUInt64LittleEndian(log.AsSpan(64)));
        Assert.Equal(1ul, BinaryPrimitives.ReadUInt64LittleEndian(log.AsSpan(80)));
        Assert.Equal(310, BinaryPrimitives.ReadUInt16LittleEndian(log.AsSpan(1)));
    }

    [Fact]
    public void Asynchronous_event_requests_are_held_up_to_the_limit_and_can_be_aborted()
    {
        using var host = new NvmeHost();
        Command request = new() { Opcode = 0x0C };
        ushort[] ids = [.. Enumerable.Range(0, 4).Select(_ => host.Admin.Submit(request))];
        host.Model.Advance();
        Assert.False(host.Admin.TryReap(out _));
        Assert.Equal(0x105, host.Admin.Run(request).Code);
        host.Admin.Submit(new Command { Opcode = 8, Cdw10 = (uint)ids[2] << 16 });
        Completion aborted = host.Admin.Reap();
        Assert.Equal((ids[2], 0x07), (aborted.Id, aborted.Code));
        Completion abort = host.Admin.Reap();
        Assert.Equal((0, 0u), (abort.Code, abort.Result));
        Assert.Equal(1u, host.Admin.Run(new Command { Opcode = 8, Cdw10 = (uint)ids[2] << 16 }).Result);
        Assert.Equal(1u, host.Admin.Run(new Command { Opcode = 8, Cdw10 = 77 }).Result);
        host.Admin.Submit(request with { Id = ids[0] }, ownId: true);
        Assert.Equal(0x03, host.Admin.Reap().Code);
    }

    [Fact]
    public void An_event_type_is_reported_once_until_its_log_page_is_read()
    {
        using var host = new NvmeHost();
        Command request = new() { Opcode = 0x0C };
        host.Admin.Submit(request);
        host.Model.Write32(0, 0x1030, 1);
        Assert.Equal(0x01_00_00u, host.Admin.Reap().Result);
        host.Admin.Submit(request);
        host.Model.Write32(0, 0x1030, 1);
        host.Model.Advance();
        Assert.False(host.Admin.TryReap(out _));
        host.LogPage(1, 64, retain: true);
        host.Model.Advance();
        Assert.False(host.Admin.TryReap(out _));
        ulong page = host.Page();
        ushort id = host.Admin.Submit(new Command { Opcode = 2, Prp1 = page, Cdw10 = 1 | (15u << 16) });
        Assert.Equal(id, host.Admin.Reap().Id);
        Assert.Equal(0x01_00_00u, host.Admin.Reap().Result);
    }

    [Fact]
    public void Strict_mode_refuses_fields_that_a_command_does_not_define()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong page = host.Page();
        Command read = Command.Io(2, 0, 1, page);
        Command[] io =
        [
            read with { Flags = 0x04 }, read with { Cdw2 = 1 }, read with { Cdw3 = 1 }, read with { Mptr = 4096 },
            read with { Cdw12 = 1u << 16 }, read with { Cdw13 = 0x100 }, read with { Cdw14 = 1 }, read with { Cdw15 = 1 },
            new Command { Nsid = 1, Prp1 = page }, new Command { Nsid = 1, Cdw10 = 1 },
            Command.Io(8, 0, 1, page), Command.Io(8, 0, 1) with { Cdw12 = 1 << 20 },
        ];
        foreach (Command command in io)
            Assert.Equal(0x02, queue.Run(command).Code);
        Command[] admin =
        [
            new() { Opcode = 6, Cdw10 = 0x101, Prp1 = page }, new() { Opcode = 6, Cdw10 = 1, Cdw11 = 1, Prp1 = page },
            new() { Opcode = 0, Cdw10 = 0x10001 }, new() { Opcode = 4, Cdw10 = 1, Prp1 = page },
            new() { Opcode = 8, Prp1 = page }, new() { Opcode = 9, Cdw10 = 1, Cdw12 = 1 }, new() { Opcode = 12, Cdw10 = 1 },
            new() { Opcode = 2, Cdw10 = 0x2001, Prp1 = page },
        ];
        foreach (Command command in admin)
            Assert.Equal(0x02, host.Admin.Run(command).Code);
        Assert.Equal(0x02, host.Admin.Run(new Command { Opcode = 8, Nsid = 1 }).Code);
        Assert.Equal(io.Length + admin.Length, host.Model.Violations.Count(v => v.Rule == "reserved"));
        Assert.Equal("NSID", host.Model.Violations[^1].Rule);
    }

    [Fact]
    public void A_lenient_controller_serves_commands_with_reserved_fields_set()
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, Strict = false, OwnThread = false });
        HostQueue queue = host.CreateQueue();
        Command read = Command.Io(2, 0, 1, host.Page()) with { Flags = 0x04, Cdw2 = 1, Cdw14 = 5, Mptr = 3 };
        Assert.Equal(0, queue.Run(read).Code);
        Assert.Equal(0, host.Model.ViolationCount);
    }

    [Fact]
    public void Violations_are_bounded_but_all_counted()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        for (int i = 0; i < 1100; i++)
            queue.Run(new Command { Nsid = 1, Cdw10 = 1 });
        Assert.Equal(1000, host.Model.Violations.Count);
        Assert.Equal(1100, host.Model.ViolationCount);
    }

    [Fact]
    public void Queues_are_refused_while_CC_has_other_entry_sizes()
    {
        using var host = new NvmeHost();
        host.Model.Write32(0, 0x14, (5u << 16) | (3u << 20) | 1);
        Assert.Equal(0x02, host.CreateCompletionQueue(1, 16, host.Page()).Code);
        host.OnlyViolation("CC");
        host.Model.Write32(0, 0x14, (6u << 16) | (4u << 20) | 1);
        host.CreateQueue(1);
    }
}
