using DmaBufIo.Dma;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <summary>How an <see cref="ImporterStage"/> is set up.</summary>
internal sealed record StageSetup
{
    /// <summary>The lengths of the buffer's pieces, whole pages.</summary>
    internal long[] Pieces { get; init; } = [256 << 10];

    /// <summary>Blocks of the device for which the buffer has room at the least: where they are large, its last piece is longer.</summary>
    internal int Blocks { get; init; } = 80;

    /// <summary>What the buffer is registered for.</summary>
    internal DmaDirection Direction { get; init; } = DmaDirection.Bidirectional;

    /// <summary>True: the buffer is registered in slot 0 at once.</summary>
    internal bool Registers { get; init; } = true;

    /// <summary>How an invalidation waits.</summary>
    internal InvalidationDesign Design { get; init; }

    /// <summary>Requests that the ring holds.</summary>
    internal int Entries { get; init; } = 64;

    /// <summary>How rings learn of completions. One that sleeps does not look by itself: it is woken, or sleeps for ever.</summary>
    internal CompletionMode Completion { get; init; }

    /// <summary>The lengths of the buffer's pieces for a device of such blocks.</summary>
    internal long[] PiecesFor(int blockSize)
    {
        long missing = ((long)Blocks * blockSize) + 4096 - Pieces.Sum();
        return missing <= 0 || blockSize <= 4096 ? Pieces : [.. Pieces[..^1], Pieces[^1] + ((missing + 4095) / 4096 * 4096)];
    }

    /// <summary>A ring of this kind.</summary>
    internal RingOptions Ring(string name) => new()
    {
        Name = name,
        Entries = Entries,
        Bios = Math.Max(1024, 4 * Entries),
        Tokens = TokenOptions.Default with { Design = Design },
        Completion = Completion,
        HealthCheckInterval = Timeout.InfiniteTimeSpan,
    };
}
