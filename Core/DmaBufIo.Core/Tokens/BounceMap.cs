using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Tokens;

/// <summary>
/// The CPU's view of a buffer: its memory as the exporter named it with the reservation lock held. Whoever copies holds a reference, which keeps the memory where it is: copying takes no lock
/// and is allowed in completion context.
/// </summary>
internal sealed class BounceMap(MemoryLayout memory) : DmaMap(memory.Length, memory.Pieces.Min(static p => p.Length))
{
    /// <summary>Copies out of the buffer. The caller holds a reference.</summary>
    /// <param name="offset">First byte in the buffer.</param>
    /// <param name="destination">Where the bytes go; within the buffer from there on.</param>
    internal void CopyOut(long offset, Span<byte> destination)
    {
        while (!destination.IsEmpty)
        {
            Span<byte> piece = PieceAt(offset, destination.Length);
            piece.CopyTo(destination);
            offset += piece.Length;
            destination = destination[piece.Length..];
            Counters.BytesCopied.Add(piece.Length);
        }
    }

    /// <summary>Copies into the buffer. The caller holds a reference.</summary>
    /// <param name="offset">First byte in the buffer.</param>
    /// <param name="source">The bytes.</param>
    internal void CopyIn(long offset, ReadOnlySpan<byte> source)
    {
        while (!source.IsEmpty)
        {
            Span<byte> piece = PieceAt(offset, source.Length);
            source[..piece.Length].CopyTo(piece);
            offset += piece.Length;
            source = source[piece.Length..];
            Counters.BytesCopied.Add(piece.Length);
        }
    }

    // No translation stands between the CPU and the memory: a place that was given up is noticed here or nowhere.
    private Span<byte> PieceAt(long offset, int length)
    {
        MemoryRange piece = memory.At(offset, length);
        if (!piece.Region.IsDead)
            return piece.Region.Span(piece.Offset, (int)piece.Length);
        throw new DmaBufIoException(
            Errno.EIO,
            "Tokens",
            ToString(),
            "the exporter has moved the buffer while a request held a reference on the map",
            "Tell the exporter's author: invalidate, wait for the fences, and only then give the old place up",
            range: $"{offset}+{length}",
            rule: "F7");
    }
}
