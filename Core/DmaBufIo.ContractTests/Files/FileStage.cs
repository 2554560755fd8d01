using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <summary>A file under test, a ring, and a buffer on strings in pieces, registered in slot 0.</summary>
internal sealed class FileStage : IStage
{
    private const long Largest = 64 << 20;
    private readonly IFileFixture _fixture;
    private readonly List<ImporterTarget> _targets = [];
    private readonly PuppetDevicesPlugin _disks;
    private bool _closed;

    internal FileStage(ContractWorld world, IFileFixture fixture, PuppetDevicesPlugin disks, OpenFlags flags)
    {
        World = world;
        _fixture = fixture;
        _disks = disks;
        Target = Open(flags);
        if ((fixture.Capabilities & FileCapabilities.KeepsData) != 0 && Target.Capacity > Largest)
            throw new NotSupportedException($"The fixture has opened a file of {Target.Capacity} bytes, and the contract compares all of it again and again: open one of at most {Largest} bytes.");
        Buffer = world.CreateBuffer("contract", 4096, 12288, 4096, 512 << 10);
        Ring = new Ring(new RingOptions { Name = "contract", Entries = 64, Bios = 256 });
        world.AtGiveUp(Abandon);
        Register();
    }

    internal ContractWorld World { get; }

    internal ImporterTarget Target { get; }

    internal IoFile File => Target.File;

    internal PuppetExporter Buffer { get; }

    internal Ring Ring { get; }

    internal DmaBufToken Token => Ring.TokenAt(0)!;

    /// <summary>The disks under the file, where it stands on puppets.</summary>
    internal IReadOnlyList<PuppetBlockDevice> Disks => _disks.Opened;

    internal int Block => Target.BlockSize;

    /// <summary>Opens a file.</summary>
    internal ImporterTarget Open(OpenFlags flags)
    {
        ImporterTarget target = World.Expect("L1", "when the file was opened", () => _fixture.Open(World, flags));
        _targets.Add(target);
        return target;
    }

    /// <summary>Registers the buffer in slot 0.</summary>
    internal void Register() => World.Expect("T1", "when a buffer was registered with the file", () =>
    {
        Ring.RegisterBuffer(0, new BufferRegistration { Buffer = Buffer.Buffer, File = File });
        return true;
    });

    /// <summary>A whole number of blocks, at least as long as asked for, and no longer than the file takes.</summary>
    internal int Blocks(long atLeast) => (int)(Math.Min(Target.Capacity, atLeast + Block - 1) / Block * Block);

    internal void Read(long fileOffset, long bufferOffset, long length, ulong userData = 1) => Prepared(Ring.TryReadFixed(File, 0, bufferOffset, length, fileOffset, userData));

    internal void Write(long fileOffset, long bufferOffset, long length, ulong userData = 1) => Prepared(Ring.TryWriteFixed(File, 0, bufferOffset, length, fileOffset, userData));

    internal void ReadVector(long fileOffset, BufferRange[] ranges, ulong userData = 1) => Prepared(Ring.TryReadFixedVector(File, 0, ranges, fileOffset, userData));

    internal void WriteVector(long fileOffset, BufferRange[] ranges, ulong userData = 1) => Prepared(Ring.TryWriteFixedVector(File, 0, ranges, fileOffset, userData));

    internal void Flush(ulong userData = 1) => Prepared(Ring.TryFlush(File, userData));

    /// <summary>Submits and reaps everything that is prepared.</summary>
    internal RingCompletion[] Run(string rule = "R4") => Reap(Ring.Submit(), rule);

    /// <summary>Submits and reaps one request.</summary>
    internal RingCompletion Run1(string rule = "R4") => Run(rule)[0];

    /// <summary>Reaps so many completions; a request that never ends breaks the rule.</summary>
    internal RingCompletion[] Reap(int count, string rule = "R4")
    {
        var completions = new RingCompletion[count];
        int reaped = 0;
        World.Eventually(
            () =>
            {
                // What was sent back is submitted again when there is room.
                Ring.Submit();
                return (reaped += Ring.Reap(completions.AsSpan(reaped))) == count;
            },
            rule,
            $"of {count} requests some have not ended.");
        return completions;
    }

    /// <summary>Nothing more comes.</summary>
    internal void CheckQuiet(string rule, string what)
    {
        var completions = new RingCompletion[1];
        for (int i = 0; i < 3; i++)
        {
            Ring.Submit();
            World.Check(Ring.Reap(completions) == 0, rule, $"{what}: a request has ended that should not have, or twice: {completions[0]}.");
        }
    }

    /// <summary>A completion must be a success of so many bytes.</summary>
    internal void Ended(in RingCompletion completion, long bytes, string rule, string what) =>
        World.Check(completion.Status == Errno.Ok && completion.Bytes == bytes, rule, $"{what} ended with {completion.Status} and {completion.Bytes} bytes instead of {bytes}.{Faults}");

    /// <summary>A completion must be an error, and say that nothing was transferred.</summary>
    internal void Refused(in RingCompletion completion, Errno status, string rule, string what) =>
        World.Check(completion.Status == status && completion.Bytes == 0, rule, $"{what} is refused by {status}; it ended with {completion.Status} and {completion.Bytes} bytes.");

    /// <summary>Random bytes in the whole buffer.</summary>
    internal byte[] FillBuffer(int seed)
    {
        byte[] bytes = new byte[Buffer.Buffer.Size];
        new Random(seed).NextBytes(bytes);
        Buffer.Write(0, bytes);
        return bytes;
    }

    /// <summary>The buffer must hold this, and nothing beside it has changed.</summary>
    internal void CheckBuffer(byte[] expected, string rule, string what)
    {
        byte[] found = new byte[expected.Length];
        Buffer.Read(0, found);
        CheckBytes(expected, found, rule, $"{what}: the buffer");
    }

    internal void CheckBytes(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> found, string rule, string what)
    {
        if (expected.SequenceEqual(found))
            return;
        int first = expected.CommonPrefixLength(found);
        throw World.Broken(rule, $"{what} differs from what it should be, first in byte {first} of {expected.Length}: 0x{found[first]:x2} instead of 0x{expected[first]:x2}.");
    }

    /// <summary>Closes ring and files. The fact has found nothing.</summary>
    public void Close()
    {
        CloseRing();
        foreach (ImporterTarget target in _targets)
            target.Dispose();
    }

    /// <summary>Closes the ring before the fact ends.</summary>
    internal void CloseRing()
    {
        if (_closed)
            return;
        _closed = true;
        LetGo();
        DmaBufToken? token = Ring.TokenAt(0);
        Ring.Dispose();
        using var limit = new CancellationTokenSource(Hang.Limit);
        if (token is not null && token.WaitReleased(limit.Token) != Errno.Ok)
            throw World.Broken("T10", $"the registration does not come to its end.{Environment.NewLine}{Hang.State()}");
    }

    /// <summary>The fact has found something: closes as far as that goes. What it finds on the way follows from that, and is not told.</summary>
    private void Abandon()
    {
        Record.Exception(LetGo);
        if (!World.WaitForActors())
            return;
        Record.Exception(CloseRing);
        foreach (ImporterTarget target in _targets)
            Record.Exception(target.Dispose);
    }

    private static void Prepared(bool prepared)
    {
        if (!prepared)
            throw new InvalidOperationException("The contract has prepared more requests than the ring holds.");
    }

    private void LetGo()
    {
        foreach (PuppetBlockDevice disk in Disks)
        {
            disk.OnSubmit = null;
            disk.FailWith = Errno.Ok;
            disk.QueueDepth = int.MaxValue;
            disk.Hold = false;
            disk.Finish();
        }
    }

    private string Faults => World.Iommu.Reports is { Count: > 0 } reports ? $" {reports[^1]}" : "";
}
