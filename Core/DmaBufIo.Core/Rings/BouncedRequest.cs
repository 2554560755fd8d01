using DmaBufIo.Iov;

namespace DmaBufIo.Rings;

/// <summary>What the ring knows of a request that goes through the bounce pool, or waits to: one per place of its table that ever had such a request.</summary>
internal sealed class BouncedRequest
{
    private const long None = -1;

    /// <summary>Why it is bounced.</summary>
    internal BounceReason Reason { get; set; }

    /// <summary>It has a piece, or had one: bytes of it go through the pool.</summary>
    internal bool HasBegun { get; set; }

    /// <summary>It is parked because no piece was free.</summary>
    internal bool WaitsForPiece { get; set; }

    /// <summary>The buffer's side: for a write behind what was copied into the piece, for a read at the piece's place. Through the CPU's map.</summary>
    internal IovIter Buffer;

    /// <summary>The piece, by its first byte in the pool.</summary>
    internal long Piece { get; set; } = None;

    internal bool HasPiece => Piece != None;

    /// <summary>Bytes of the request that are in the piece now.</summary>
    internal int PieceLength { get; set; }

    /// <summary>The request's transferred bytes when the piece began.</summary>
    internal long PieceStart { get; set; }

    /// <summary>Forgets the piece and the buffer's side.</summary>
    internal void DropPiece()
    {
        Piece = None;
        Buffer = default;
    }
}
