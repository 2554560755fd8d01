using DmaBufIo.Errors;

namespace DmaBufIo.Pci.Model.Stores;

/// <summary>Where a namespace keeps its blocks. Called by one thread at a time; never throws, a failure is an errno.</summary>
internal interface INamespaceStore : IDisposable
{
    /// <summary>Bytes held now; what lies beyond reads as zeros.</summary>
    long Length { get; }

    /// <summary>Fills the destination with the bytes from <paramref name="position"/>.</summary>
    Errno Read(long position, Span<byte> destination);

    /// <summary>Stores the bytes at <paramref name="position"/>, growing the store when needed.</summary>
    Errno Write(long position, ReadOnlySpan<byte> source);

    /// <summary>Makes a range read as zeros and frees its space where possible.</summary>
    /// <param name="position">First byte.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="extend">Grow the store to the range's end, as a write of zeros would.</param>
    Errno Zero(long position, long length, bool extend);

    /// <summary>Makes everything written so far durable.</summary>
    Errno Flush();
}
