using System.Buffers.Binary;
using DmaBufIo.Errors;
using DmaBufIo.Pci.Model.Stores;
using DmaBufIo.Pci.Model.Tests.Host;

namespace DmaBufIo.Pci.Model.Tests;

public sealed class StoreTests
{
    private static readonly NvmeModelOptions s_inline = new() { OwnThread = false };

    [Fact]
    public void Data_is_made_durable_by_flush_by_FUA_and_by_every_write_while_the_cache_is_off()
    {
        var store = new ScriptedStore(1 << 20);
        using var host = new NvmeHost(s_inline, store: store);
        HostQueue queue = host.CreateQueue();
        Command write = Command.Io(1, 0, 1, host.Page());
        Command forced = write with { Cdw12 = 1u << 30 };
        Command zeroes = Command.Io(8, 2, 3);
        Assert.Equal(["write 0+512"], CallsOf(write));
        Assert.Equal(["write 0+512", "flush"], CallsOf(forced));
        Assert.Equal(["flush"], CallsOf(new Command { Nsid = 1 }));
        Assert.Equal(["zero 1024+1536 True"], CallsOf(zeroes));
        Assert.Equal(["zero 1024+1536 False", "flush"], CallsOf(zeroes with { Cdw12 = 2 | (1u << 30) | (1u << 25) }));
        store.Calls.Clear();
        Assert.Equal(0, host.SetFeature(6, 0).Code);
        Assert.Equal(["flush"], store.Calls);
        Assert.Equal(["write 0+512", "flush"], CallsOf(write));
        Assert.Equal(["zero 1024+1536 True", "flush"], CallsOf(zeroes));
        Assert.Equal(0, host.SetFeature(6, 1).Code);
        Assert.Equal(["write 0+512"], CallsOf(write));

        string[] CallsOf(Command command)
        {
            store.Calls.Clear();
            Assert.Equal(0, queue.Run(command).Code);
            return [.. store.Calls];
        }
    }

    [Fact]
    public void Without_a_volatile_write_cache_every_write_is_durable()
    {
        var store = new ScriptedStore(1 << 20);
        using var host = new NvmeHost(s_inline with { VolatileWriteCache = false }, store: store);
        Assert.Equal(0, host.CreateQueue().Run(Command.Io(1, 0, 1, host.Page())).Code);
        Assert.Equal(["write 0+512", "flush"], store.Calls);
    }

    [Fact]
    public void Shutdown_and_disposal_flush_and_disposal_closes()
    {
        var store = new ScriptedStore(1 << 20);
        using (var host = new NvmeHost(s_inline, store: store))
        {
            host.Model.Write32(0, 0x14, (6u << 16) | (4u << 20) | (1u << 14) | 1);
            Assert.Equal(["flush"], store.Calls);
        }

        Assert.Equal(["flush", "flush", "dispose"], store.Calls);
    }

    [Fact]
    public void A_read_only_namespace_is_never_flushed()
    {
        var store = new ScriptedStore(1 << 20);
        using (var host = new NvmeHost(s_inline with { ReadOnly = true }, store: store))
            Assert.Equal(0, host.CreateQueue().Run(new Command { Nsid = 1 }).Code);
        Assert.Equal(["dispose"], store.Calls);
    }

    [Theory]
    [InlineData(0, 0x280)]
    [InlineData(1, 0x280)]
    [InlineData(2, 0x281)]
    [InlineData(8, 0x280)]
    [InlineData(9, 0x280)]
    public void A_failing_store_is_a_media_error_with_its_errno_kept(byte opcode, int code)
    {
        var store = new ScriptedStore(1 << 20) { Answer = Errno.EIO };
        using var host = new NvmeHost(s_inline, store: store);
        HostQueue queue = host.CreateQueue();
        ulong page = host.Page();
        Command command = opcode switch
        {
            0 => new Command { Nsid = 1 },
            8 => Command.Io(8, 0, 1),
            9 => new Command { Opcode = 9, Nsid = 1, Cdw11 = 4, Prp1 = page },
            _ => Command.Io(opcode, 0, 1, page),
        };
        BinaryPrimitives.WriteUInt32LittleEndian(host.Fabric.Memory(page + 4, 4), 1);
        Assert.Equal(code, queue.Run(command).Code);
        NvmeStoreError error = Assert.Single(host.Model.StoreErrors);
        Assert.Equal((Errno.EIO, opcode), (error.Errno, error.Opcode));
        Assert.Equal(1u, host.Csts);
    }

    [Fact]
    public void A_store_that_fails_with_a_fault_is_not_taken_for_a_failed_translation()
    {
        using var host = new NvmeHost(s_inline, store: new ScriptedStore(1 << 20) { Answer = Errno.EFAULT });
        Assert.Equal(0x281, host.CreateQueue().Run(Command.Io(2, 0, 1, host.Page())).Code);
    }

    [Fact]
    public void Neighbouring_pages_reach_the_store_as_one_call()
    {
        var store = new ScriptedStore(1 << 20);
        using var host = new NvmeHost(s_inline, store: store);
        ulong block = host.Fabric.Allocate(5 * 4096);
        ulong other = host.Page();
        (ulong prp1, ulong prp2) = host.BuildPrp([block, block + 4096, other + 4096, block + 8192], 512);
        Assert.Equal(0, host.CreateQueue().Run(Command.Io(2, 2, 29, prp1, prp2)).Code);
        Assert.Equal(["read 1024+7680", "read 8704+4096", "read 12800+3072"], store.Calls);
    }

    [Fact]
    public void A_file_store_frees_the_space_of_zeroed_ranges_and_keeps_the_rest()
    {
        using var file = new TempFile(256 << 10);
        using FileNamespaceStore store = FileNamespaceStore.Open(new NvmeModelOptions { Path = file.Path });
        Assert.Equal(Errno.Ok, store.Zero(5000, 100_000, extend: false));
        byte[] expected = [.. file.Contents];
        expected.AsSpan(5000, 100_000).Clear();
        Assert.Equal(expected, file.Read());
        Assert.Equal(Errno.Ok, store.Zero(250 << 10, 10 << 10, extend: false));
        Assert.Equal(256 << 10, store.Length);
        Assert.Equal(Errno.Ok, store.Zero(250 << 10, 10 << 10, extend: true));
        Assert.Equal(260 << 10, new FileInfo(file.Path).Length);
    }

    [Fact]
    public void A_memory_store_agrees_with_a_byte_array_across_its_chunks()
    {
        const int Size = 5 << 20;
        using var store = new MemoryNamespaceStore(Size);
        byte[] expected = new byte[Size];
        byte[] buffer = new byte[2 << 20];
        var random = new Random(3);
        for (int i = 0; i < 200; i++)
        {
            int length = random.Next(1, buffer.Length);
            int position = random.Next(0, Size - length + 1);
            switch (random.Next(3))
            {
                case 0:
                    random.NextBytes(buffer.AsSpan(0, length));
                    Assert.Equal(Errno.Ok, store.Write(position, buffer.AsSpan(0, length)));
                    buffer.AsSpan(0, length).CopyTo(expected.AsSpan(position));
                    break;
                case 1:
                    Assert.Equal(Errno.Ok, store.Zero(position, length, extend: true));
                    expected.AsSpan(position, length).Clear();
                    break;
                default:
                    Assert.Equal(Errno.Ok, store.Read(position, buffer.AsSpan(0, length)));
                    Assert.True(expected.AsSpan(position, length).SequenceEqual(buffer.AsSpan(0, length)));
                    break;
            }
        }
    }
}
