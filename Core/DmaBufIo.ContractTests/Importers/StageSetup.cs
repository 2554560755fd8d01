using DmaBufIo.Dma;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <summary>How an <see cref="ImporterStage"/> is set up.</summary>
internal sealed record StageSetup
{
    /// <summary>The lengths of the buffer's pieces, whole pages.</summary>
    internal long[] Pieces { get; init; } = [256 << 10];

    /// <summary>What the buffer is registered for.</summary>
    internal DmaDirection Direction { get; init; } = DmaDirection.Bidirectional;

    /// <summary>True: the buffer is registered in slot 0 at once.</summary>
    internal bool Registers { get; init; } = true;

    /// <summary>How an invalidation waits.</summary>
    internal InvalidationDesign Design { get; init; }

    /// <summary>Requests that the ring holds.</summary>
    internal int Entries { get; init; } = 64;

    /// <summary>A ring of this kind.</summary>
    internal RingOptions Ring(string name) =>
        new() { Name = name, Entries = Entries, Bios = Math.Max(1024, 4 * Entries), Tokens = TokenOptions.Default with { Design = Design } };
}
