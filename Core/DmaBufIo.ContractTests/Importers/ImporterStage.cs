using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <summary>A device under test, a ring, and a buffer on strings registered in slot 0.</summary>
internal sealed class ImporterStage : IDisposable
{
    private bool _closed;

    internal ImporterStage(ContractWorld world, IImporterFixture fixture, RingOptions? ring = null, DmaDirection direction = DmaDirection.Bidirectional, params long[] pieces)
    {
        World = world;
        Target = fixture.Open(world);
        Buffer = world.CreateBuffer("contract", pieces.Length == 0 ? [256 << 10] : pieces);
        Ring = new Ring(ring ?? new RingOptions { Name = "contract", Entries = 64 });
        Registration = new BufferRegistration { Buffer = Buffer.Buffer, File = Target.File, Direction = direction };
        Ring.RegisterBuffer(0, Registration);
    }

    internal ContractWorld World { get; }

    internal ImporterTarget Target { get; }

    internal PuppetExporter Buffer { get; }

    internal Ring Ring { get; }

    internal BufferRegistration Registration { get; }

    internal DmaBufToken Token => Ring.TokenAt(0)!;

    /// <summary>A whole number of blocks, at least as long as asked for.</summary>
    internal int Blocks(int atLeast) => (atLeast + Target.BlockSize - 1) / Target.BlockSize * Target.BlockSize;

    /// <summary>Prepares a read from the target into the buffer.</summary>
    internal void Read(long fileOffset, long bufferOffset, int length, ulong userData = 1) => Prepared(Ring.TryReadFixed(Target.File, 0, bufferOffset, length, fileOffset, userData));

    /// <summary>Prepares a write from the buffer to the target.</summary>
    internal void Write(long fileOffset, long bufferOffset, int length, ulong userData = 1) => Prepared(Ring.TryWriteFixed(Target.File, 0, bufferOffset, length, fileOffset, userData));

    /// <summary>Submits and reaps everything that is prepared.</summary>
    internal RingCompletion[] Run() => Reap(Ring.Submit());

    /// <summary>Reaps so many completions; a request that never ends breaks N8.</summary>
    internal RingCompletion[] Reap(int count)
    {
        var completions = new RingCompletion[count];
        int reaped = 0;
        World.Eventually(
            () => (reaped += Ring.Reap(completions.AsSpan(reaped))) == count,
            "N8",
            $"of {count} requests some have not ended.");
        return completions;
    }

    /// <summary>One read, start to end, verified against the truth; the bytes beside it in the buffer stay as they are.</summary>
    internal void CheckRead(long fileOffset, long bufferOffset, byte[] data, string rule = "N1")
    {
        byte[] expected = Contents();
        data.CopyTo(expected, bufferOffset);
        Target.Give(fileOffset, data);
        Read(fileOffset, bufferOffset, data.Length);
        Ended(Run()[0], data.Length, rule, $"a read of {data.Length} bytes at {fileOffset} into the buffer at {bufferOffset}");
        CheckContents(expected, rule, $"a read of {data.Length} bytes at {fileOffset} into the buffer at {bufferOffset}");
    }

    /// <summary>One write, start to end, verified against the truth.</summary>
    internal void CheckWrite(long fileOffset, long bufferOffset, byte[] data, string rule = "N1")
    {
        Buffer.Write(bufferOffset, data);
        Target.Expect(fileOffset, data.Length);
        Write(fileOffset, bufferOffset, data.Length);
        Ended(Run()[0], data.Length, rule, $"a write of {data.Length} bytes from the buffer at {bufferOffset} to {fileOffset}");
        byte[] found = Target.Take(fileOffset, data.Length);
        CheckEqual(data, found, rule, $"a write of {data.Length} bytes from the buffer at {bufferOffset} to {fileOffset}");
    }

    /// <summary>The buffer's contents.</summary>
    internal byte[] Contents()
    {
        byte[] contents = new byte[Buffer.Buffer.Size];
        Buffer.Read(0, contents);
        return contents;
    }

    internal void CheckContents(byte[] expected, string rule, string what) => CheckEqual(expected, Contents(), rule, what);

    /// <summary>Bytes must be what they should be.</summary>
    internal void CheckEqual(byte[] expected, byte[] found, string rule, string what)
    {
        if (!found.AsSpan().SequenceEqual(expected))
            throw World.Broken(rule, $"{what} {Difference(expected, found)}.");
    }

    /// <summary>A completion must be a success of so many bytes.</summary>
    internal void Ended(in RingCompletion completion, long bytes, string rule, string what) =>
        World.Check(completion.Status == Errno.Ok && completion.Bytes == bytes, rule, $"{what} ended with {completion.Status} and {completion.Bytes} bytes.");

    /// <summary>Closes the ring, then the target: what is left then is a leak.</summary>
    public void Dispose()
    {
        if (_closed)
            return;
        _closed = true;
        Ring.Dispose();
        Target.Dispose();
    }

    private static string Difference(byte[] expected, byte[] found)
    {
        int first = expected.AsSpan().CommonPrefixLength(found);
        int wrong = expected.Zip(found).Count(static p => p.First != p.Second);
        return $"differs in {wrong} bytes from what it should be, first in byte {first}: {found[first]:x2} instead of {expected[first]:x2}";
    }

    private static void Prepared(bool prepared)
    {
        if (!prepared)
            throw new InvalidOperationException("The contract has prepared more requests than the ring holds.");
    }
}
