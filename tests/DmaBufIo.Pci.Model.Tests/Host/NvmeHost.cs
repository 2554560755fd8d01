using System.Buffers.Binary;
using System.Diagnostics;

namespace DmaBufIo.Pci.Model.Tests.Host;

/// <summary>A raw host: a fabric, a controller and just enough driver to bring it up the way Linux does.</summary>
internal sealed class NvmeHost : IDisposable
{
    internal const int AdminEntries = 32;
    private HostQueue? _admin;

    internal NvmeHost(NvmeModelOptions? options = null, bool enable = true, int mps = 0, Stores.INamespaceStore? store = null)
    {
        Options = options ?? new NvmeModelOptions { SizeBytes = 1 << 20, OwnThread = false };
        Fabric = new TestFabric();
        Model = store is null ? new NvmeControllerModel(Options, Fabric) : new NvmeControllerModel(Options, Fabric, store);
        PageSize = 4096 << mps;
        if (enable)
            Enable(mps);
    }

    internal NvmeModelOptions Options { get; }

    internal TestFabric Fabric { get; }

    internal NvmeControllerModel Model { get; }

    internal int PageSize { get; private set; }

    internal HostQueue Admin => _admin ?? throw new InvalidOperationException("The controller was not enabled.");

    internal uint Csts => Model.Read32(0, 0x1C);

    public void Dispose()
    {
        Model.Dispose();
        Fabric.Dispose();
    }

    /// <summary>Linux's order: disabled, AQA, ASQ, ACQ, CC without EN, CAP again, EN, ready.</summary>
    internal void Enable(int mps = 0, int adminEntries = AdminEntries)
    {
        ulong cap = Model.Read64(0, 0);
        Model.Write32(0, 0x14, 0);
        WaitStatus(3, 0);
        ulong submission = Fabric.Allocate(adminEntries * 64, 65536);
        ulong completion = Fabric.Allocate(adminEntries * 16, 65536);
        Model.Write32(0, 0x24, (uint)((adminEntries - 1) | ((adminEntries - 1) << 16)));
        Model.Write64(0, 0x28, submission);
        Model.Write64(0, 0x30, completion);
        uint cc = (6u << 16) | (4u << 20) | ((uint)mps << 7);
        Model.Write32(0, 0x14, cc);
        Assert.Equal(cap, Model.Read64(0, 0));
        Model.Write32(0, 0x14, cc | 1);
        WaitStatus(1, 1);
        PageSize = 4096 << mps;
        _admin = new HostQueue(this, 0, submission, adminEntries, completion, adminEntries, 0);
    }

    internal void WaitStatus(uint mask, uint value)
    {
        long start = Stopwatch.GetTimestamp();
        while ((Csts & mask) != value)
        {
            if (Stopwatch.GetElapsedTime(start) > TimeSpan.FromSeconds(30))
                Assert.Fail($"CSTS stays {Csts:x}, expected {value:x} in {mask:x}");
            Thread.Yield();
        }
    }

    internal Completion CreateCompletionQueue(int id, int entries, ulong address, uint flags = 1, int vector = 0) =>
        Admin.Run(new Command { Opcode = 5, Prp1 = address, Cdw10 = QueueOf(id, entries), Cdw11 = flags | ((uint)vector << 16) });

    internal Completion CreateSubmissionQueue(int id, int entries, ulong address, int completionId, uint flags = 1) =>
        Admin.Run(new Command { Opcode = 1, Prp1 = address, Cdw10 = QueueOf(id, entries), Cdw11 = flags | ((uint)completionId << 16) });

    /// <summary>Creates an I/O queue pair.</summary>
    internal HostQueue CreateQueue(int id = 1, int entries = 64, int completionEntries = 0, int vector = -1)
    {
        completionEntries = completionEntries == 0 ? entries : completionEntries;
        ulong completion = Fabric.Allocate(completionEntries * 16, PageSize);
        ulong submission = Fabric.Allocate(entries * 64, PageSize);
        Assert.Equal(0, CreateCompletionQueue(id, completionEntries, completion, vector < 0 ? 1u : 3u, Math.Max(vector, 0)).Code);
        Assert.Equal(0, CreateSubmissionQueue(id, entries, submission, id).Code);
        return new HostQueue(this, id, submission, entries, completion, completionEntries, id);
    }

    internal Completion Delete(byte opcode, int id) => Admin.Run(new Command { Opcode = opcode, Cdw10 = (uint)id });

    internal ulong Page(byte fill = 0)
    {
        ulong page = Fabric.Allocate(PageSize, PageSize);
        Fabric.Memory(page, PageSize).Fill(fill);
        return page;
    }

    /// <summary>Pages that are never neighbours, in falling order of addresses.</summary>
    internal ulong[] ScatteredPages(int count)
    {
        ulong block = Fabric.Allocate((long)count * 2 * PageSize, PageSize);
        return [.. Enumerable.Range(0, count).Select(i => block + (ulong)((count - 1 - i) * 2 * PageSize))];
    }

    /// <summary>PRP1 and PRP2 for a transfer over pages; a list begins at the given offset of its first page.</summary>
    internal (ulong Prp1, ulong Prp2) BuildPrp(ReadOnlySpan<ulong> pages, int offset, int listOffset = 0)
    {
        ulong prp1 = pages[0] + (ulong)offset;
        if (pages.Length == 1)
            return (prp1, 0);
        if (pages.Length == 2)
            return (prp1, pages[1]);
        ulong list = Page(0xEE);
        ulong prp2 = list + (ulong)listOffset;
        int slot = listOffset / 8;
        int slots = PageSize / 8;
        for (int i = 1; i < pages.Length; i++)
        {
            if (slot == slots - 1 && i != pages.Length - 1)
            {
                ulong next = Page(0xEE);
                WriteEntry(list, slot, next);
                list = next;
                slot = 0;
            }

            WriteEntry(list, slot++, pages[i]);
        }

        return (prp1, prp2);
    }

    internal void WriteEntry(ulong list, int slot, ulong entry) =>
        BinaryPrimitives.WriteUInt64LittleEndian(Fabric.Memory(list + (ulong)slot * 8, 8), entry);

    /// <summary>Spreads bytes over pages as a transfer with this first offset sees them.</summary>
    internal void Scatter(ReadOnlySpan<ulong> pages, int offset, ReadOnlySpan<byte> data)
    {
        foreach (ulong page in pages)
        {
            int part = Math.Min(data.Length, PageSize - offset);
            data[..part].CopyTo(Fabric.Memory(page + (ulong)offset, part));
            data = data[part..];
            offset = 0;
        }

        Assert.True(data.IsEmpty);
    }

    internal byte[] Gather(ReadOnlySpan<ulong> pages, int offset, int length)
    {
        byte[] data = new byte[length];
        int at = 0;
        foreach (ulong page in pages)
        {
            int part = Math.Min(length - at, PageSize - offset);
            Fabric.Memory(page + (ulong)offset, part).CopyTo(data.AsSpan(at));
            at += part;
            offset = 0;
        }

        Assert.Equal(length, at);
        return data;
    }

    /// <summary>Identify into a fresh page.</summary>
    internal byte[] Identify(uint structure, uint nsid = 0, int expectedCode = 0, uint cdw11 = 0)
    {
        ulong page = Page(0xEE);
        Assert.Equal(expectedCode, Admin.Run(new Command { Opcode = 6, Nsid = nsid, Prp1 = page, Cdw10 = structure, Cdw11 = cdw11 }).Code);
        return Fabric.Memory(page, 4096).ToArray();
    }

    internal byte[] LogPage(byte log, int bytes, uint offset = 0, int expectedCode = 0, bool retain = false)
    {
        ulong page = Page(0xEE);
        uint cdw10 = log | ((uint)(bytes / 4 - 1) << 16) | (retain ? 1u << 15 : 0);
        Assert.Equal(expectedCode, Admin.Run(new Command { Opcode = 2, Prp1 = page, Cdw10 = cdw10, Cdw12 = offset }).Code);
        return Fabric.Memory(page, bytes).ToArray();
    }

    internal Completion SetFeature(byte feature, uint value, uint nsid = 0) =>
        Admin.Run(new Command { Opcode = 9, Nsid = nsid, Cdw10 = feature, Cdw11 = value });

    internal Completion GetFeature(byte feature, uint cdw11 = 0) => Admin.Run(new Command { Opcode = 10, Cdw10 = feature, Cdw11 = cdw11 });

    private static uint QueueOf(int id, int entries) => (uint)(id | ((entries - 1) << 16));

    /// <summary>The only violation recorded, which must be of this rule.</summary>
    internal NvmeViolation OnlyViolation(string rule)
    {
        NvmeViolation violation = Assert.Single(Model.Violations);
        Assert.Equal(rule, violation.Rule);
        return violation;
    }
}
