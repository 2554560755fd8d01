using DmaBufIo.Dma;
using DmaBufIo.Iov;
using DmaBufIo.Memory;

namespace DmaBufIo.Tests.Iov;

/// <summary>Iterators of every kind over given piece lengths, so that one law can be asked of all of them.</summary>
internal static class Iterators
{
    internal static readonly IovKind[] Kinds =
    [
        IovKind.UserBuffer, IovKind.Iovec, IovKind.KernelVec, IovKind.BioVec, IovKind.Discard, IovKind.DmaBufMap, IovKind.DmaBufMapVec,
    ];

    internal static readonly IovKind[] Vectors = [IovKind.Iovec, IovKind.KernelVec, IovKind.BioVec, IovKind.DmaBufMapVec];

    /// <summary>Where the only piece of a map-backed iterator begins, and where the pieces of vectors begin: distinct places.</summary>
    internal static long Origin(int piece) => 4096 + (piece * 65536L);

    /// <summary>Kinds without a vector take the sum of the lengths as one piece.</summary>
    internal static IovIter Make(IovKind kind, MemoryRegion region, params int[] lengths)
    {
        long total = lengths.Sum();
        return kind switch
        {
            IovKind.UserBuffer => IovIter.ForBuffer(new byte[total], DmaDirection.FromDevice),
            IovKind.Iovec => IovIter.ForIovec([.. lengths.Select(static l => new byte[l].AsMemory())], DmaDirection.FromDevice),
            IovKind.KernelVec => IovIter.ForKernelVec([.. lengths.Select(static l => new byte[l].AsMemory())], DmaDirection.FromDevice),
            IovKind.BioVec => IovIter.ForBioVec(
                [.. lengths.Select((l, i) => new MemoryRange(region, Origin(i), l))], DmaDirection.FromDevice),
            IovKind.Discard => IovIter.ForDiscard(total),
            IovKind.DmaBufMap => IovIter.ForMap(new StillMap(1 << 20), Origin(0), total, DmaDirection.FromDevice),
            IovKind.DmaBufMapVec => IovIter.ForMapRanges(
                new StillMap(1 << 20), lengths.Select((l, i) => new BufferRange(Origin(i), l)).ToArray(), DmaDirection.FromDevice),
            _ => throw new ArgumentOutOfRangeException(nameof(kind)),
        };
    }

    /// <summary>
    /// The byte it stands on, as (piece, offset in the piece) for vectors, as the distance from the start for the others.
    /// </summary>
    internal static (int Piece, long Offset) Place(in IovIter iter) => iter.Kind switch
    {
        IovKind.DmaBufMap => (0, iter.Offset - Origin(0)),
        _ => (iter.Segment, iter.Offset),
    };
}
