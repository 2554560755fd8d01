using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <summary>A device under test, a ring, and a buffer on strings registered in slot 0.</summary>
internal sealed class ImporterStage : IStage
{
    private readonly StageSetup _setup;
    private readonly List<Ring> _rings = [];
    private readonly Lock _closing = new();
    private bool _closed;

    internal ImporterStage(ContractWorld world, IImporterFixture fixture, StageSetup setup)
    {
        _setup = setup;
        World = world;
        HasPlaces = (fixture.Capabilities & ImporterCapabilities.KeepsData) != 0;
        Target = fixture.Open(world);
        long least = Math.Max(1 << 20, 80L * Target.BlockSize);
        if (HasPlaces && Target.Capacity < least)
            throw new NotSupportedException($"The fixture has opened a device of {Target.Capacity} bytes, which is too small for the contract: open one of {least} bytes or more.");
        world.AtGiveUp(Close);
        Buffer = world.CreateBuffer("contract", setup.PiecesFor(Target.BlockSize));
        Ring = OpenRing("contract");
        Registration = new BufferRegistration { Buffer = Buffer.Buffer, File = Target.File, Direction = setup.Direction };
        if (setup.Registers)
            Register(0);
    }

    internal StageSetup Setup => _setup;

    internal ContractWorld World { get; }

    internal ImporterTarget Target { get; }

    /// <summary>False for a device of messages: offsets in its file name nothing, and each read takes what was sent next.</summary>
    internal bool HasPlaces { get; }

    internal PuppetExporter Buffer { get; }

    internal Ring Ring { get; }

    internal BufferRegistration Registration { get; }

    internal DmaBufToken Token => Ring.TokenAt(0)!;

    /// <summary>One more ring, closed with the stage.</summary>
    internal Ring OpenRing(string name)
    {
        var ring = new Ring(_setup.Ring(name));
        _rings.Add(ring);
        return ring;
    }

    /// <summary>Registers the buffer in a slot, or again; a refusal breaks T1, or the rule given.</summary>
    internal void Register(int slot, string rule = "T1") => World.Expect(rule, $"when the buffer was registered for {Registration.Direction}", () =>
    {
        Ring.RegisterBuffer(slot, Registration);
        return true;
    });

    /// <summary>The owner of the memory moves it, on the calling thread or on one of its own; a move that does not end breaks the rule.</summary>
    internal void Move(bool elsewhere, string rule = "T14")
    {
        if (elsewhere)
            World.Ends("mover", () => Buffer.Move(), rule, "a move of the buffer did not come to its end.");
        else
            Buffer.Move();
    }

    /// <summary>A whole number of blocks, at least as long as asked for.</summary>
    internal int Blocks(int atLeast) => (atLeast + Target.BlockSize - 1) / Target.BlockSize * Target.BlockSize;

    /// <summary>Prepares a read from the target into the buffer.</summary>
    internal void Read(long fileOffset, long bufferOffset, int length, ulong userData = 1) => Prepared(Ring.TryReadFixed(Target.File, 0, bufferOffset, length, HasPlaces ? fileOffset : 0, userData));

    /// <summary>Prepares a write from the buffer to the target.</summary>
    internal void Write(long fileOffset, long bufferOffset, int length, ulong userData = 1) => Prepared(Ring.TryWriteFixed(Target.File, 0, bufferOffset, length, HasPlaces ? fileOffset : 0, userData));

    /// <summary>Makes sure that the next reads, of so many bytes each from the start of the file on, bring these bytes: a message for each where there are no places.</summary>
    internal void Give(byte[] data, int length)
    {
        if (HasPlaces)
            Target.Give(0, data);
        for (int at = 0; at < data.Length && !HasPlaces; at += length)
            Target.Give(0, data.AsSpan(at, length));
    }

    /// <summary>So many writes, of so many bytes each from the start of the file on, are going to be issued.</summary>
    internal void Expect(int count, int length)
    {
        if (HasPlaces)
            Target.Expect(0, count * length);
        for (int i = 0; i < count && !HasPlaces; i++)
            Target.Expect(0, length);
    }

    /// <summary>What the writes of <see cref="Expect"/> have brought, one after the other.</summary>
    internal byte[] Take(int count, int length) =>
        HasPlaces ? Target.Take(0, count * length) : [.. Enumerable.Range(0, count).SelectMany(_ => Target.Take(0, length))];

    /// <summary>Submits and reaps everything that is prepared.</summary>
    internal RingCompletion[] Run(string rule = "N8") => Reap(Ring.Submit(), rule);

    /// <summary>Reaps so many completions; a request that never ends breaks N8, or the rule given.</summary>
    internal RingCompletion[] Reap(int count, string rule = "N8")
    {
        var completions = new RingCompletion[count];
        int reaped = 0;
        World.Eventually(() => (reaped += Ring.Reap(completions.AsSpan(reaped))) == count, rule, () => $"of {count} requests {count - reaped} have not ended.");
        return completions;
    }

    /// <summary>Reaps so many completions, by the number that each request bears: 1 and on. One that ends twice, or bears another number, breaks the rule.</summary>
    internal RingCompletion[] ReapEach(int count, string rule)
    {
        var each = new RingCompletion?[count];
        foreach (RingCompletion completion in Reap(count, rule))
        {
            bool isNew = completion.UserData - 1 < (ulong)count && each[completion.UserData - 1] is null;
            World.Check(isNew, rule, $"request {completion.UserData} of {count} ended twice, or was never made.");
            each[completion.UserData - 1] = completion;
        }

        World.Check(Ring.InFlight == 0, rule, $"{Ring.InFlight} requests are in flight after all have ended.");
        return [.. each.Select(static c => c!.Value)];
    }

    /// <summary>One read, start to end, verified against the truth; the bytes beside it in the buffer stay as they are.</summary>
    internal void CheckRead(long fileOffset, long bufferOffset, byte[] data, string rule = "N1")
    {
        byte[] expected = Contents();
        data.CopyTo(expected, bufferOffset);
        Target.Give(fileOffset, data);
        Read(fileOffset, bufferOffset, data.Length);
        Ended(Run(rule)[0], data.Length, rule, $"a read of {data.Length} bytes at {fileOffset} into the buffer at {bufferOffset}");
        CheckContents(expected, rule, $"a read of {data.Length} bytes at {fileOffset} into the buffer at {bufferOffset}");
    }

    /// <summary>One write, start to end, verified against the truth.</summary>
    internal void CheckWrite(long fileOffset, long bufferOffset, byte[] data, string rule = "N1")
    {
        Buffer.Write(bufferOffset, data);
        Target.Expect(fileOffset, data.Length);
        Write(fileOffset, bufferOffset, data.Length);
        Ended(Run(rule)[0], data.Length, rule, $"a write of {data.Length} bytes from the buffer at {bufferOffset} to {fileOffset}");
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
    public void Close()
    {
        // Who comes second waits for the first: what is closed may hang, and nothing under it may be taken away then.
        lock (_closing)
        {
            if (_closed)
                return;
            foreach (Ring ring in _rings)
                ring.Dispose();
            Target.Dispose();
            _closed = true;
        }
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
