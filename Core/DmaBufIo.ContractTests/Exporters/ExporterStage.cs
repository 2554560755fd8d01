using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Plugins;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <summary>A buffer under test, and the devices that a fact attaches to it.</summary>
internal sealed class ExporterStage : IStage
{
    private readonly IExporterFixture _fixture;
    private readonly List<ExporterTarget> _targets = [];
    private readonly Stack<IDisposable> _devices = new();
    private int _names;

    internal ExporterStage(ContractWorld world, IExporterFixture fixture, long size)
    {
        World = world;
        _fixture = fixture;
        world.AtGiveUp(Abandon);
        Target = Create("contract", size);
    }

    internal ContractWorld World { get; }

    /// <summary>The first buffer.</summary>
    internal ExporterTarget Target { get; }

    internal DmaBuf Buffer => Target.Buffer;

    /// <summary>The exporter's own work.</summary>
    internal IComputeBuffers Compute => Target.Compute ?? throw new NotSupportedException("The fixture lists the capability Jobs, and the exporter's factory does not implement IComputeBuffers.");

    /// <summary>What the modelled IOMMU has recorded last; empty when it has recorded nothing.</summary>
    internal string LastReport => LastReportOf(World);

    internal static string LastReportOf(ContractWorld world) => world.Iommu.Reports is { Count: > 0 } reports ? reports[^1].ToString() : "";

    /// <summary>Makes another buffer.</summary>
    internal ExporterTarget Create(string name, long size)
    {
        ExporterTarget target = World.Expect("L1", $"when a buffer of {size} bytes was made", () => _fixture.Create(World, name, size));
        _targets.Add(target);
        return target;
    }

    /// <summary>Ends a buffer before the fact does.</summary>
    internal void Drop(ExporterTarget target)
    {
        _targets.Remove(target);
        target.Dispose();
    }

    /// <summary>Where a device hangs that reaches the exporter's own memory, so that the exporter moves nothing for it; null where there is no such memory.</summary>
    private DeviceLocation? Near => (_fixture.Capabilities & ExporterCapabilities.PeerToPeer) != 0 ? DeviceLocation.Parse(_fixture.PeerLocation) : null;

    /// <summary>Registers a buffer with a puppet importer.</summary>
    internal PuppetImporter Import(string name = "puppet", DmaBuf? buffer = null, TokenOptions? tokens = null, DmaDirection direction = DmaDirection.Bidirectional, bool isNear = false)
    {
        PuppetImporter importer = World.Expect("T1", "when a device was registered with a buffer", () => new PuppetImporter(World, buffer ?? Buffer, name, tokens, direction, isNear ? Near : null));
        _devices.Push(importer);
        return importer;
    }

    /// <summary>Attaches a device by hand.</summary>
    internal RawDevice Attach(string name = "raw", DmaBuf? buffer = null, bool isDynamic = true, DeviceLocation? location = null)
    {
        RawDevice device = World.Expect("T1", "when a device was attached", () => new RawDevice(World, buffer ?? Buffer, name, isDynamic, location));
        _devices.Push(device);
        return device;
    }

    /// <summary>A name that no other device of the stage has had.</summary>
    internal string Name(string of) => $"{of} {++_names}";

    /// <summary>Closes a device before the fact does.</summary>
    internal void Close(IDisposable device)
    {
        IDisposable[] others = [.. _devices.Where(d => !ReferenceEquals(d, device)).Reverse()];
        _devices.Clear();
        foreach (IDisposable other in others)
            _devices.Push(other);
        device.Dispose();
    }

    /// <summary>Moves a buffer, and waits until its contents are where they go.</summary>
    internal InvalidationReport Move(ExporterTarget? target = null)
    {
        ExporterTarget moved = target ?? Target;
        InvalidationReport report = World.Expect("F7", "when the buffer was to move", () => moved.Move());
        Settle(moved.Buffer);
        return report;
    }

    /// <summary>Waits for every fence of a buffer, without its lock.</summary>
    internal void Settle(DmaBuf? buffer = null)
    {
        DmaBuf settled = buffer ?? Buffer;
        using var limit = new CancellationTokenSource(Hang.Limit);
        if (settled.Reservation.Wait(FenceUsage.Bookkeep, limit.Token) != Errno.Ok)
            throw World.Broken("F3", $"a fence of {settled.Name} does not signal although nobody holds its lock.{Environment.NewLine}{Hang.State()}");
    }

    /// <summary>Waits for every fence of a buffer while its lock is held; a rule is broken when they do not signal.</summary>
    internal void WaitHoldingLock(DmaBuf buffer, string rule, string did)
    {
        using var limit = new CancellationTokenSource(Hang.Limit);
        if (buffer.Reservation.Wait(FenceUsage.Bookkeep, limit.Token) != Errno.Ok)
            throw World.Broken(rule, $"{did} Waited for {Hang.Limit.TotalSeconds:0} s.{Environment.NewLine}{Hang.State()}");
    }

    /// <summary>What the CPU finds in a buffer.</summary>
    internal byte[] Contents(DmaBuf? buffer = null)
    {
        DmaBuf read = buffer ?? Buffer;
        byte[] contents = new byte[read.Size];
        Access(read, 0, contents.Length, (piece, at) => piece.CopyTo(contents.AsSpan(at)));
        return contents;
    }

    /// <summary>The CPU puts something into a buffer.</summary>
    internal void Put(byte[] bytes, long offset = 0, DmaBuf? buffer = null) =>
        Access(buffer ?? Buffer, offset, bytes.Length, (piece, at) => bytes.AsSpan(at, piece.Length).CopyTo(piece));

    /// <summary>A part of the buffer, as the CPU sees it.</summary>
    internal byte[] Peek(long offset, int length, DmaBuf? buffer = null)
    {
        byte[] bytes = new byte[length];
        Access(buffer ?? Buffer, offset, length, (piece, at) => piece.CopyTo(bytes.AsSpan(at)));
        return bytes;
    }

    /// <summary>The contents must be these, whoever looks: the CPU where it can, and a device.</summary>
    internal void CheckContents(byte[] expected, string rule, string what, DmaBuf? buffer = null)
    {
        DmaBuf looked = buffer ?? Buffer;
        if ((_fixture.Capabilities & ExporterCapabilities.HostMemory) != 0)
            CheckBytes(expected, Contents(looked), rule, $"{what} the CPU finds contents through Describe that");
        using var device = new RawDevice(World, looked, "onlooker", isDynamic: true, null);
        SgTable table = World.Expect("N1", "when a device was to be given a buffer", () => device.Map(DmaDirection.ToDevice));
        CheckBytes(expected, device.Read(table, 0, expected.Length), rule, $"{what} a device reads bytes that");
    }

    /// <summary>Fills a buffer: by the CPU where it can, else by a device.</summary>
    internal void Fill(byte[] bytes, DmaBuf? buffer = null)
    {
        if ((_fixture.Capabilities & ExporterCapabilities.HostMemory) != 0)
        {
            Put(bytes, 0, buffer);
            return;
        }

        using var device = new RawDevice(World, buffer ?? Buffer, "filler", isDynamic: true, null);
        device.Write(device.Map(DmaDirection.FromDevice), 0, bytes);
    }

    internal void CheckBytes(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> found, string rule, string what)
    {
        if (expected.SequenceEqual(found))
            return;
        int first = expected.CommonPrefixLength(found);
        int wrong = 0;
        for (int i = 0; i < expected.Length; i++)
            wrong += expected[i] == found[i] ? 0 : 1;
        throw World.Broken(rule, $"{what} differ in {wrong} of {expected.Length} bytes from what they should be, first in byte {first}: 0x{found[first]:x2} instead of 0x{expected[first]:x2}.");
    }

    /// <summary>The mappings that exist for a device.</summary>
    internal int MappingsOf(string device) => World.Fabric.Mappings.Count(m => m.Device == device);

    /// <summary>Closes everything and looks whether the exporter has given everything back. The fact has found nothing.</summary>
    public void Close()
    {
        while (_devices.TryPop(out IDisposable? device))
            device.Dispose();
        foreach (ExporterTarget target in _targets)
        {
            Settle(target.Buffer);
            DmaBuf buffer = target.Buffer;
            World.Eventually(
                () => buffer.References == 1,
                "T10",
                $"{buffer.References - 1} references on {buffer.Name} are held although no device is attached and no job runs.");
        }

        foreach (ExporterTarget target in _targets)
        {
            World.Expect("T10", "when the last reference on a buffer was dropped", () =>
            {
                target.Dispose();
                return true;
            });
        }

        _targets.Clear();
    }

    /// <summary>The fact has found something: closes as far as that goes. What it finds on the way follows from that, and is not told.</summary>
    private void Abandon()
    {
        // An exporter that is stuck may hold a lock for ever. Whoever is in the middle of something keeps what it uses.
        foreach (PuppetImporter importer in _devices.OfType<PuppetImporter>())
            importer.LetGo();
        if (!World.WaitForActors())
            return;
        foreach (IDisposable closed in _devices.Concat(_targets))
            Record.Exception(closed.Dispose);
    }

    private void Access(DmaBuf buffer, long offset, int length, PieceAction act)
    {
        using ReservationGuard guard = buffer.Reservation.Lock();
        WaitHoldingLock(buffer, "F4", $"fences of {buffer.Name} do not signal while its lock is held.");
        int done = 0;
        foreach (MemoryRange range in World.Expect("N1", "when it was asked what a buffer is made of", buffer.Describe).Ranges)
        {
            if (done == length)
                return;
            if (offset < range.Length)
            {
                int part = (int)Math.Min(length - done, range.Length - offset);
                act(range.Region.Span(range.Offset + offset, part), done);
                done += part;
                offset += part;
            }

            offset -= range.Length;
        }

        World.Check(done == length, "N1", $"Describe answers {buffer.Describe().Ranges.Sum(static r => r.Length)} bytes of memory for a buffer of {buffer.Size}.");
    }

    private delegate void PieceAction(Span<byte> piece, int position);
}
