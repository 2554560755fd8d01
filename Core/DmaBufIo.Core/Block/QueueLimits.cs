namespace DmaBufIo.Block;

/// <summary>What a block device accepts in one bio. Limits of stacked devices combine by <see cref="Stack"/>.</summary>
public readonly record struct QueueLimits
{
    /// <summary>Creates limits for a logical block size; everything else unlimited.</summary>
    /// <param name="logicalBlockSize">Bytes, a power of two from 512 to 65,536.</param>
    public QueueLimits(int logicalBlockSize)
    {
        LogicalBlockSize = logicalBlockSize;
        MaxBytes = int.MaxValue & -logicalBlockSize;
        MaxSegments = int.MaxValue;
        DmaAlignment = 4;
    }

    /// <summary>The unit of the device in bytes: offsets on the device and lengths are multiples of it (B3, R2).</summary>
    public int LogicalBlockSize { get; init; }

    /// <summary>The alignment of the memory offset of a bio in bytes, a power of two: 4 for NVMe's dwords (B3, N2).</summary>
    public int DmaAlignment { get; init; }

    /// <summary>The largest bio in bytes, a multiple of the logical block size.</summary>
    public int MaxBytes { get; init; }

    /// <summary>
    /// The largest number of segments as the device sees them (B3). A device that takes one alone asks for a <see cref="DmaAlignment"/> of a logical block or more: a block at any other
    /// offset may lie in two segments, and no split helps.
    /// </summary>
    public int MaxSegments { get; init; }

    /// <summary>The limits of a device on top of devices with these limits: for each the stricter of the two.</summary>
    /// <param name="other">The limits of another member.</param>
    public QueueLimits Stack(in QueueLimits other)
    {
        int block = Math.Max(LogicalBlockSize, other.LogicalBlockSize);
        return new QueueLimits(block)
        {
            DmaAlignment = Math.Max(DmaAlignment, other.DmaAlignment),
            MaxBytes = Math.Max(block, Math.Min(MaxBytes, other.MaxBytes) & -block),
            MaxSegments = Math.Min(MaxSegments, other.MaxSegments),
        };
    }

    /// <summary>
    /// The largest piece of a map-backed bio that may go to the device at once. The device may see a new segment every
    /// <paramref name="smallestSegment"/> bytes, and a start inside of one touches one segment more than the length alone tells: so many bytes times the other segments are certain to fit (B3).
    /// Where one segment is all, as many bytes as memory is aligned to do not leave it.
    /// </summary>
    /// <param name="smallestSegment">The map's smallest segment in bytes.</param>
    /// <returns>Bytes, a multiple of the logical block size and at least one block.</returns>
    public int MaxBytesFor(long smallestSegment)
    {
        // No segment matters beyond the largest bio, so the product stays within 62 bits.
        long bytes = MaxSegments == 1
            ? Math.Min(MaxBytes, Math.Min(smallestSegment, DmaAlignment))
            : Math.Min(MaxBytes, Math.Min(smallestSegment, MaxBytes) * (MaxSegments - 1L));
        return (int)Math.Max(LogicalBlockSize, bytes & -LogicalBlockSize);
    }
}
