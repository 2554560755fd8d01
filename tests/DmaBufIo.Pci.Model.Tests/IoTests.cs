using System.Buffers.Binary;
using DmaBufIo.Errors;
using DmaBufIo.Pci.Model.Tests.Host;

namespace DmaBufIo.Pci.Model.Tests;

public sealed class IoTests
{
    private const byte Flush = 0;
    private const byte Write = 1;
    private const byte Read = 2;
    private const byte WriteZeroes = 8;
    private const byte DatasetManagement = 9;

    [Theory]
    [InlineData(512, 0, false, true)]
    [InlineData(4096, 0, false, true)]
    [InlineData(512, 2, false, false)]
    [InlineData(512, 0, true, true)]
    [InlineData(4096, 1, true, false)]
    public void Random_transfers_agree_with_a_byte_array(int lba, int mps, bool ownThread, bool inFile)
    {
        const int Size = 2 << 20;
        using var file = new TempFile(Size - 1000);
        var options = new NvmeModelOptions { Path = inFile ? file.Path : null, SizeBytes = Size, LbaSize = lba, OwnThread = ownThread };
        using var host = new NvmeHost(options, mps: mps);
        host.Fabric.Recording = false;
        host.Fabric.PieceBoundary = 8192;
        HostQueue queue = host.CreateQueue(entries: 7);
        byte[] expected = new byte[Size];
        if (inFile)
            file.Contents.CopyTo(expected, 0);
        var random = new Random(lba + mps);
        ulong[] scattered = host.ScatteredPages(40);
        ulong neighbours = host.Fabric.Allocate(40L * host.PageSize, host.PageSize);
        ulong[] adjacent = [.. Enumerable.Range(0, 40).Select(i => neighbours + (ulong)(i * host.PageSize))];
        ulong[] lists = [host.Page()];
        for (int i = 0; i < 400; i++)
        {
            int blocks = random.Next(1, (128 << 10) / lba + 1);
            int first = random.Next(0, Size / lba - blocks + 1);
            int offset = random.Next(0, host.PageSize / 4) * 4;
            int length = blocks * lba;
            ulong[] pages = (random.Next(2) == 0 ? scattered : adjacent)[..((offset + length + host.PageSize - 1) / host.PageSize)];
            ulong prp2 = pages.Length == 1 ? 0 : pages.Length == 2 ? pages[1] : lists[0];
            for (int p = 1; p < pages.Length && pages.Length > 2; p++)
                host.WriteEntry(lists[0], p - 1, pages[p]);
            int position = first * lba;
            switch (random.Next(8))
            {
                case < 4:
                    Assert.Equal(0, queue.Run(Command.Io(Read, (ulong)first, blocks, pages[0] + (ulong)offset, prp2)).Code);
                    byte[] read = host.Gather(pages, offset, length);
                    bool same = expected.AsSpan(position, length).SequenceEqual(read);
                    Assert.True(same, $"transfer {i}: {blocks} blocks from {first} differ");
                    break;
                case < 7:
                    byte[] data = new byte[length];
                    random.NextBytes(data);
                    host.Scatter(pages, offset, data);
                    Assert.Equal(0, queue.Run(Command.Io(Write, (ulong)first, blocks, pages[0] + (ulong)offset, prp2)).Code);
                    data.CopyTo(expected, position);
                    break;
                default:
                    Assert.Equal(0, queue.Run(Command.Io(WriteZeroes, (ulong)first, blocks)).Code);
                    expected.AsSpan(position, length).Clear();
                    break;
            }
        }

        Assert.Empty(host.Model.Violations);
        if (!inFile)
            return;
        byte[] stored = file.Read();
        Assert.True(expected.AsSpan(0, stored.Length).SequenceEqual(stored));
        Assert.All(expected.Skip(stored.Length), b => Assert.Equal(0, b));
    }

    [Theory]
    [InlineData(0, 512, 1)]
    [InlineData(1, 512, 1)]
    [InlineData(511, 512, 1)]
    [InlineData(512, 512, 1)]
    [InlineData(513, 512, 2)]
    [InlineData(4097, 4096, 2)]
    [InlineData(5000, 512, 10)]
    public void The_capacity_is_the_files_length_in_whole_blocks_and_its_end_reads_as_zeros(int length, int lba, int blocks)
    {
        using var file = new TempFile(length);
        using var host = new NvmeHost(new NvmeModelOptions { Path = file.Path, LbaSize = lba, OwnThread = false });
        Assert.Equal((ulong)blocks, BinaryPrimitives.ReadUInt64LittleEndian(host.Identify(0, nsid: 1)));
        HostQueue queue = host.CreateQueue();
        ulong[] pages = [host.Page(0xCC), host.Page(0xCC)];
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, blocks, pages[0], blocks * lba > 4096 ? pages[1] : 0)).Code);
        byte[] data = host.Gather(pages, 0, blocks * lba);
        Assert.Equal(file.Contents, data[..length]);
        Assert.All(data.Skip(length), b => Assert.Equal(0, b));
        Assert.Equal(length, new FileInfo(file.Path).Length);
        Assert.Equal(0x80, queue.Run(Command.Io(Read, (ulong)blocks, 1, pages[0])).Code);
    }

    [Fact]
    public void A_namespace_larger_than_its_file_grows_the_file_when_it_is_written()
    {
        using var file = new TempFile(100);
        using var host = new NvmeHost(new NvmeModelOptions { Path = file.Path, SizeBytes = 8192, OwnThread = false });
        HostQueue queue = host.CreateQueue();
        ulong page = host.Page(0xAA);
        Assert.Equal(0, queue.Run(Command.Io(Write, 10, 2, page)).Code);
        byte[] stored = file.Read();
        Assert.Equal(12 * 512, stored.Length);
        Assert.Equal(file.Contents, stored[..100]);
        Assert.All(stored[100..5120], b => Assert.Equal(0, b));
        Assert.All(stored[5120..], b => Assert.Equal(0xAA, b));
        Assert.Equal(0, queue.Run(Command.Io(WriteZeroes, 14, 2)).Code);
        Assert.Equal(8192, new FileInfo(file.Path).Length);
    }

    [Theory]
    [InlineData(2048ul, 1)]
    [InlineData(2047ul, 2)]
    [InlineData(0xFFFF_FFFF_FFFF_FFFFul, 2)]
    [InlineData(0x8000_0000_0000_0000ul, 1)]
    public void Blocks_beyond_the_capacity_are_out_of_range(ulong lba, int blocks)
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong page = host.Page();
        foreach (byte opcode in new[] { Read, Write })
            Assert.Equal(0x80, queue.Run(Command.Io(opcode, lba, blocks, page)).Code);
        Assert.Equal(0x80, queue.Run(Command.Io(WriteZeroes, lba, blocks)).Code);
        Span<byte> range = host.Fabric.Memory(page, 16);
        BinaryPrimitives.WriteUInt32LittleEndian(range[4..], (uint)blocks);
        BinaryPrimitives.WriteUInt64LittleEndian(range[8..], lba);
        Assert.Equal(0x80, queue.Run(new Command { Opcode = DatasetManagement, Nsid = 1, Cdw11 = 4, Prp1 = page }).Code);
        Assert.Equal(0, queue.Run(Command.Io(Read, 2047, 1, page)).Code);
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(2u)]
    [InlineData(0xFFFFFFFFu)]
    public void A_namespace_that_does_not_exist_is_refused(uint nsid)
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        Assert.Equal(0x0B, queue.Run(Command.Io(Read, 0, 1, host.Page()) with { Nsid = nsid }).Code);
        host.OnlyViolation("NSID");
    }

    [Fact]
    public void A_read_only_namespace_is_write_protected()
    {
        using var file = new TempFile(4096);
        File.SetAttributes(file.Path, FileAttributes.ReadOnly);
        using var host = new NvmeHost(new NvmeModelOptions { Path = file.Path, ReadOnly = true, OwnThread = false });
        Assert.Equal(1, host.Identify(0, nsid: 1)[99]);
        HostQueue queue = host.CreateQueue();
        ulong page = host.Page();
        Assert.Equal(0x20, queue.Run(Command.Io(Write, 0, 1, page)).Code);
        Assert.Equal(0x20, queue.Run(Command.Io(WriteZeroes, 0, 1)).Code);
        Assert.Equal(0x20, queue.Run(new Command { Opcode = DatasetManagement, Nsid = 1, Cdw11 = 4, Prp1 = page }).Code);
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, 8, page)).Code);
        Assert.Equal(file.Contents, host.Fabric.Memory(page, 4096).ToArray());
        Assert.Equal(0, queue.Run(new Command { Opcode = Flush, Nsid = 1 }).Code);
        Assert.Equal(file.Contents, file.Read());
    }

    [Fact]
    public void Flush_takes_the_namespace_or_all_of_them()
    {
        using var file = new TempFile(4096);
        using var host = new NvmeHost(new NvmeModelOptions { Path = file.Path, OwnThread = false });
        HostQueue queue = host.CreateQueue();
        Assert.Equal(0, queue.Run(new Command { Opcode = Flush, Nsid = 1 }).Code);
        Assert.Equal(0, queue.Run(new Command { Opcode = Flush, Nsid = 0xFFFFFFFF }).Code);
        Assert.Equal(0x0B, queue.Run(new Command { Opcode = Flush, Nsid = 7 }).Code);
        Assert.Equal(0, queue.Run(Command.Io(Write, 0, 1, host.Page()) with { Cdw12 = 1u << 30 }).Code);
        Assert.Equal(0, host.SetFeature(6, 0).Code);
        Assert.Equal(0, queue.Run(Command.Io(Write, 0, 1, host.Page())).Code);
        Assert.Empty(host.Model.StoreErrors);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Deallocated_blocks_read_as_zeros_and_their_neighbours_stay(bool inFile)
    {
        using var file = new TempFile(64 << 10);
        using var host = new NvmeHost(new NvmeModelOptions { Path = inFile ? file.Path : null, SizeBytes = 64 << 10, OwnThread = false });
        HostQueue queue = host.CreateQueue();
        ulong page = host.Page(0xAA);
        for (ulong lba = 0; lba < 128; lba += 8)
            Assert.Equal(0, queue.Run(Command.Io(Write, lba, 8, page)).Code);
        ulong list = host.Page();
        Span<byte> ranges = host.Fabric.Memory(list, 48);
        (uint Count, ulong First)[] dropped = [(1, 3), (0, 50), (20, 100)];
        for (int i = 0; i < dropped.Length; i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(ranges[(i * 16 + 4)..], dropped[i].Count);
            BinaryPrimitives.WriteUInt64LittleEndian(ranges[(i * 16 + 8)..], dropped[i].First);
        }

        Command command = new() { Opcode = DatasetManagement, Nsid = 1, Cdw10 = 2, Prp1 = list };
        Assert.Equal(0, queue.Run(command).Code); // without the deallocate attribute: hints only
        Assert.True(IsFilled(3));
        Assert.Equal(0, queue.Run(command with { Cdw11 = 4 }).Code);
        for (ulong lba = 0; lba < 128; lba++)
            Assert.Equal(lba != 3 && lba is < 100 or >= 120, IsFilled(lba));
        if (inFile)
            Assert.Equal(64 << 10, new FileInfo(file.Path).Length);

        bool IsFilled(ulong lba)
        {
            Assert.Equal(0, queue.Run(Command.Io(Read, lba, 1, page)).Code);
            byte[] block = host.Fabric.Memory(page, 512).ToArray();
            Assert.Single(block.Distinct());
            Assert.Contains(block[0], new byte[] { 0, 0xAA });
            return block[0] == 0xAA;
        }
    }

    [Fact]
    public void A_dataset_command_with_one_bad_range_changes_nothing()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong page = host.Page(0xAA);
        Assert.Equal(0, queue.Run(Command.Io(Write, 0, 8, page)).Code);
        ulong list = host.Page();
        Span<byte> ranges = host.Fabric.Memory(list, 32);
        BinaryPrimitives.WriteUInt32LittleEndian(ranges[4..], 8);
        BinaryPrimitives.WriteUInt32LittleEndian(ranges[20..], 1);
        BinaryPrimitives.WriteUInt64LittleEndian(ranges[24..], 1 << 30);
        Assert.Equal(0x80, queue.Run(new Command { Opcode = DatasetManagement, Nsid = 1, Cdw10 = 1, Cdw11 = 4, Prp1 = list }).Code);
        host.Fabric.Memory(page, 4096).Clear();
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, 8, page)).Code);
        Assert.All(host.Fabric.Memory(page, 4096).ToArray(), b => Assert.Equal(0xAA, b));
    }

    [Fact]
    public void A_full_disk_is_a_write_fault_and_its_errno_is_kept()
    {
        using var host = new NvmeHost(new NvmeModelOptions { Path = "/dev/full", SizeBytes = 1 << 20, OwnThread = false });
        HostQueue queue = host.CreateQueue();
        Assert.Equal(Errno.Ok, host.Model.LastStoreErrno);
        Completion completion = queue.Run(Command.Io(Write, 16, 8, host.Page()));
        Assert.Equal(0x280, completion.Code);
        Assert.True(completion.DoNotRetry);
        Assert.Equal(Errno.ENOSPC, host.Model.LastStoreErrno);
        Assert.Equal(new NvmeStoreError(Errno.ENOSPC, Write, 1, completion.Id, 8192, 4096), Assert.Single(host.Model.StoreErrors));
        Assert.Equal(1, host.Model.StoreErrorCount);
        Assert.Empty(host.Model.Violations);
        Assert.Equal(1ul, BinaryPrimitives.ReadUInt64LittleEndian(host.LogPage(2, 512).AsSpan(160)));
    }

    [Theory]
    [InlineData("/nonexistent/file", Errno.ENOENT)]
    [InlineData("/tmp", Errno.EISDIR)]
    public void A_file_that_cannot_be_opened_is_an_error_that_names_it(string path, Errno errno)
    {
        using var fabric = new TestFabric();
        var options = new NvmeModelOptions { Path = path };
        DmaBufIoException error = Assert.Throws<DmaBufIoException>(() => new NvmeControllerModel(options, fabric));
        Assert.Equal((errno, path, "Pci.Model"), (error.Errno, error.Subject, error.Layer));
        Assert.Equal(0, fabric.LivingDevices);
    }

    [Fact]
    public void A_missing_file_is_created_on_request_only()
    {
        using var file = new TempFile(0);
        File.Delete(file.Path);
        using var fabric = new TestFabric();
        var options = new NvmeModelOptions { Path = file.Path, SizeBytes = 4096 };
        Assert.Equal(Errno.ENOENT, Assert.Throws<DmaBufIoException>(() => new NvmeControllerModel(options, fabric)).Errno);
        new NvmeControllerModel(options with { CreateFile = true }, fabric).Dispose();
        Assert.True(File.Exists(file.Path));
    }
}
