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

    /// <summary>The largest number of segments as the device sees them (B3).</summary>
    public int MaxSegments { get; init; }

    /// <summary>Segments whose smallest length is certain to fit: an unaligned start touches one segment more than the length alone tells.</summary>
    internal long CertainSegments => Math.Max(1, MaxSegments - 1L);

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
    /// <paramref name="smallestSegment"/> bytes, so that many bytes times the segments are certain to fit (B3).
    /// </summary>
    /// <param name="smallestSegment">The map's smallest segment in bytes.</param>
    /// <returns>Bytes, a multiple of the logical block size and at least one block.</returns>
    public int MaxBytesFor(long smallestSegment)
    {
        // No segment matters beyond the largest bio, so the product stays within 62 bits.
        long bytes = Math.Min(MaxBytes, Math.Min(smallestSegment, MaxBytes) * CertainSegments);
        return (int)Math.Max(LogicalBlockSize, bytes & -LogicalBlockSize);
    }
}
