namespace DmaBufIo.Iov;

/// <summary>A byte range of a registered buffer.</summary>
/// <param name="Offset">First byte.</param>
/// <param name="Length">Bytes.</param>
public readonly record struct BufferRange(long Offset, long Length);

/// <summary>Where an iterator stands; see <see cref="IovIter.Save"/>.</summary>
/// <param name="Offset">The iterator's offset.</param>
/// <param name="Count">The bytes left.</param>
/// <param name="Segment">The current segment of a vector.</param>
public readonly record struct IovIterState(long Offset, long Count, int Segment);
