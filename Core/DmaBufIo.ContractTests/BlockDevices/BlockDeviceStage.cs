using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Memory;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <summary>A block device under test, memory of both kinds, and lanes to the device.</summary>
internal sealed class BlockDeviceStage : IStage, ITokenOwner
{
    /// <summary>The names of the memory, as the fabric's strings see them.</summary>
    internal const string MapName = "contract buffer";
    internal const string PagesName = "contract pages";

    /// <summary>Bytes of the memory of each kind.</summary>
    internal const long MemorySize = 4 << 20;

    private readonly List<BlockLane> _lanes = [];
    private readonly List<DmaBufToken> _tokens = [];
    private readonly List<MemoryRegion> _regions = [];
    private readonly bool _hasTokens;
    private PuppetExporter? _buffer;
    private DmaBufToken? _token;
    private MemoryRegion? _pages;
    private bool _closed;

    internal BlockDeviceStage(ContractWorld world, OpenedDevice opened, bool hasTokens)
    {
        World = world;
        Opened = opened;
        Device = world.Expect("Q4", "When it was asked for its block device", () => opened.BlockDevice);
        _hasTokens = hasTokens;
        Limits = Device.Limits;
        Block = Limits.LogicalBlockSize;
        world.AtGiveUp(Abandon);
    }

    internal ContractWorld World { get; }

    internal OpenedDevice Opened { get; }

    internal BlockDevice Device { get; }

    internal QueueLimits Limits { get; }

    internal int Block { get; }

    string ITokenOwner.Name => "contract";

    /// <summary>The kinds of backing that the device takes.</summary>
    internal BioBacking[] Kinds => _hasTokens ? [BioBacking.Pages, BioBacking.Map] : [BioBacking.Pages];

    /// <summary>The buffer on strings, in one piece, and registered.</summary>
    internal PuppetExporter Buffer => _buffer ??= World.CreateBuffer(MapName, MemorySize);

    internal DmaBufToken Token => _token ??= Register(Buffer);

    internal MemoryRegion Pages => _pages ??= Allocate(PagesName, MemorySize);

    /// <summary>The largest bio for memory of the stage.</summary>
    internal int LargestBio => (int)Math.Min(Math.Min(Limits.MaxBytes, Limits.MaxBytesFor(MemorySize)), Math.Min(MemorySize - (128 << 10), Device.Capacity)) / Block * Block;

    internal BlockLane Lane(int depth = 32)
    {
        BlockLane lane = World.Expect("N6", "When a queue was opened", () => new BlockLane(World, Device, depth));
        _lanes.Add(lane);
        return lane;
    }

    /// <summary>Ends a lane before the stage.</summary>
    internal void Close(BlockLane lane)
    {
        lane.Finish();
        lane.Dispose();
        _lanes.Remove(lane);
    }

    internal DmaBufToken Register(PuppetExporter buffer)
    {
        DmaBufToken token = World.Expect(
            "B6", "When a buffer was registered", () => DmaBufToken.Create(this, buffer.Buffer, DmaDirection.Bidirectional, TokenOptions.Default, Device.CreateToken));
        _tokens.Add(token);
        return token;
    }

    internal MemoryRegion Allocate(string name, long length)
    {
        var region = MemoryRegion.Allocate(name, length);
        _regions.Add(region);
        return region;
    }

    /// <summary>A whole number of blocks, at least as long as asked for.</summary>
    internal int Blocks(int atLeast) => (atLeast + Block - 1) / Block * Block;

    /// <summary>The size of a bio that the device takes: a whole number of blocks, at least as long as asked for where its limits allow.</summary>
    internal int BioOf(int atLeast) => Math.Min(LargestBio, Blocks(atLeast));

    internal BioPlan Plan(BioBacking kind, BioOperation operation, long deviceOffset, long memoryOffset, long size) =>
        new(operation, deviceOffset >> 9, memoryOffset, size, kind == BioBacking.Pages ? Pages : null, kind == BioBacking.Map ? Token : null);

    /// <summary>Writes the memory of a kind.</summary>
    internal void Put(BioBacking kind, long offset, ReadOnlySpan<byte> data)
    {
        if (kind == BioBacking.Pages)
            data.CopyTo(Pages.Span(offset, data.Length));
        else
            Buffer.Write(offset, data);
    }

    /// <summary>Reads the memory of a kind.</summary>
    internal byte[] Get(BioBacking kind, long offset, int length)
    {
        byte[] found = new byte[length];
        if (kind == BioBacking.Pages)
            Pages.Span(offset, length).CopyTo(found);
        else
            Buffer.Read(offset, found);
        return found;
    }

    /// <summary>Writes bytes to the device, start to end.</summary>
    internal void Write(BlockLane lane, BioBacking kind, long deviceOffset, long memoryOffset, byte[] data, string rule)
    {
        Put(kind, memoryOffset, data);
        lane.Do(rule, Plan(kind, BioOperation.Write, deviceOffset, memoryOffset, data.Length));
    }

    /// <summary>Reads bytes from the device, start to end; what lies beside them in the memory stays as it was.</summary>
    internal void CheckRead(BlockLane lane, BioBacking kind, long deviceOffset, long memoryOffset, byte[] data, string rule)
    {
        long start = Math.Max(0, memoryOffset - 4096);
        int length = (int)(Math.Min(MemorySize, memoryOffset + data.Length + 4096) - start);
        byte[] expected = new byte[length];
        expected.AsSpan().Fill(0xA5);
        Put(kind, start, expected);
        data.CopyTo(expected.AsSpan((int)(memoryOffset - start)));
        BioPlan plan = Plan(kind, BioOperation.Read, deviceOffset, memoryOffset, data.Length);
        lane.Do(rule, plan);
        CheckSame(expected, Get(kind, start, length), rule, $"after a {plan} the memory around it");
    }

    internal void CheckSame(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> found, string rule, string what)
    {
        int first = expected.CommonPrefixLength(found);
        if (first != expected.Length)
            throw World.Broken(rule, $"{what} is not as it should be: byte {first} is {found[first]:x2} instead of {expected[first]:x2}.");
    }

    /// <summary>The fact has found nothing: closes all.</summary>
    public void Close()
    {
        if (_closed)
            return;
        _closed = true;
        foreach (BlockLane lane in _lanes)
        {
            lane.Finish();
            lane.Dispose();
        }

        EndTokens();
        Opened.Dispose();
        Free();
    }

    /// <summary>The fact has found something: what can be closed is, and what follows from the finding is not told.</summary>
    private void Abandon()
    {
        if (_closed)
            return;
        _closed = true;
        World.Fabric.OnDma = null;
        foreach (BlockLane lane in _lanes)
            lane.Abandon();
        foreach (DmaBufToken token in _tokens)
            token.Release();
    }

    void ITokenOwner.Get()
    {
    }

    void ITokenOwner.Put()
    {
    }

    private void EndTokens()
    {
        foreach (DmaBufToken token in _tokens)
        {
            token.Release();
            World.Eventually(() => token.IsReleased, "T10", $"{token.Name} is not released although nothing is in flight.");
        }
    }

    private void Free()
    {
        foreach (MemoryRegion region in _regions)
            region.Dispose();
    }
}
