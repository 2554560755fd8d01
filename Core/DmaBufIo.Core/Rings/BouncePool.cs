using DmaBufIo.Memory;

namespace DmaBufIo.Rings;

/// <summary>
/// Page-aligned memory for the data of bounced requests, in equal pieces. Bounded: a request that finds no piece waits for one. Used by the ring's current owner only.
/// </summary>
internal sealed class BouncePool : IDisposable
{
    // Enough requests at once to keep a device busy while the CPU copies; larger pieces cost fewer round trips.
    private const int MaxPieces = 8;

    private readonly MemoryRegion _region;
    private readonly Stack<long> _free = new();

    /// <summary>Allocates the pool.</summary>
    /// <param name="ring">Whose it is, for messages.</param>
    /// <param name="size">Bytes, whole pages.</param>
    /// <exception cref="Errors.DmaBufIoException">Memory is exhausted.</exception>
    internal BouncePool(string ring, long size)
    {
        _region = MemoryRegion.Allocate($"bounce pool of {ring}", size);
        Memory = new MemoryLayout([new MemoryRange(_region, 0, size)]);
        PieceSize = PieceSizeOf(size);
        for (int i = Pieces(size) - 1; i >= 0; i--)
            _free.Push(i * (long)PieceSize);
    }

    /// <summary>The pool as requests are given pieces of it.</summary>
    internal MemoryLayout Memory { get; }

    /// <summary>Bytes of a piece, whole pages.</summary>
    internal int PieceSize { get; }

    internal bool HasFree => _free.Count != 0;

    /// <summary>Bytes that a piece of a pool of this size has.</summary>
    internal static int PieceSizeOf(long poolSize) => (int)(poolSize / Pieces(poolSize) & -MemoryRegion.PageSize);

    /// <summary>Takes a piece; there is one (<see cref="HasFree"/>).</summary>
    /// <returns>Its first byte in the pool.</returns>
    internal long Take() => _free.Pop();

    /// <summary>Gives a piece back: no bio uses it any more.</summary>
    /// <param name="piece">From <see cref="Take"/>.</param>
    internal void Return(long piece) => _free.Push(piece);

    /// <summary>The first bytes of a piece, for the CPU.</summary>
    internal Span<byte> Span(long piece, int length) => _region.Span(piece, length);

    public void Dispose() => _region.Dispose();

    private static int Pieces(long poolSize) => (int)Math.Min(MaxPieces, poolSize / MemoryRegion.PageSize);
}
