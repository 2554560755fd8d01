using System.Runtime.InteropServices;
using DmaBufIo.Dma;
using DmaBufIo.Errors;

namespace DmaBufIo.Pci.Model.Protocol;

/// <summary>
/// Writes one completion queue entry. The host polls the phase bit in the entry's second half and then reads the rest and the
/// data, so that half is one release store after everything else. Owned by the engine, reused.
/// </summary>
internal sealed class CompletionMover : IDmaMover
{
    /// <summary>Bytes of an entry (CC.IOCQES 4).</summary>
    internal const int EntrySize = 16;

    /// <summary>Dwords 0 and 1.</summary>
    internal ulong FirstHalf { get; set; }

    /// <summary>Dwords 2 and 3: head and queue, command identifier, phase and status.</summary>
    internal ulong SecondHalf { get; set; }

    public Errno Move(Span<byte> piece, long position)
    {
        // An entry is aligned to its size and lies in one page, so a fabric that splits it is broken.
        if (piece.Length != EntrySize)
            return Errno.EFAULT;
        Span<ulong> halves = MemoryMarshal.Cast<byte, ulong>(piece);
        halves[0] = BitConverter.IsLittleEndian ? FirstHalf : System.Buffers.Binary.BinaryPrimitives.ReverseEndianness(FirstHalf);
        Volatile.Write(
            ref halves[1],
            BitConverter.IsLittleEndian ? SecondHalf : System.Buffers.Binary.BinaryPrimitives.ReverseEndianness(SecondHalf));
        return Errno.Ok;
    }
}
