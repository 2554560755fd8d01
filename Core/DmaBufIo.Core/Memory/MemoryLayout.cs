namespace DmaBufIo.Memory;

/// <summary>Memory ranges one after another, addressed by one offset. Immutable; looking something up allocates nothing.</summary>
public sealed class MemoryLayout
{
    private readonly MemoryRange[] _pieces;
    private readonly long[] _starts;

    /// <summary>Puts ranges one after another; neighbours that continue each other in one region become one piece.</summary>
    /// <param name="ranges">The ranges in order, none empty; copied.</param>
    public MemoryLayout(IReadOnlyList<MemoryRange> ranges)
    {
        var pieces = new List<MemoryRange>(ranges.Count);
        foreach (MemoryRange range in ranges)
        {
            ArgumentOutOfRangeException.ThrowIfNegativeOrZero(range.Length, nameof(ranges));
            if (pieces.Count > 0 && ReferenceEquals(pieces[^1].Region, range.Region) && pieces[^1].Offset + pieces[^1].Length == range.Offset)
                pieces[^1] = pieces[^1] with { Length = pieces[^1].Length + range.Length };
            else
                pieces.Add(range);
        }

        _pieces = [.. pieces];
        _starts = new long[_pieces.Length];
        for (int i = 0; i < _pieces.Length; i++)
        {
            _starts[i] = Length;
            Length += _pieces[i].Length;
        }
    }

    /// <summary>Bytes in all.</summary>
    public long Length { get; }

    /// <summary>The contiguous pieces in order.</summary>
    public IReadOnlyList<MemoryRange> Pieces => _pieces;

    /// <summary>The memory from an offset on, as far as it is contiguous. A search by halves: the cost does not depend on where the offset lies (N4).</summary>
    /// <param name="offset">First byte, 0 to <see cref="Length"/> - 1.</param>
    /// <param name="length">At most this many bytes, 0 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException">The offset is not within the layout.</exception>
    public MemoryRange At(long offset, long length)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((ulong)offset, (ulong)Length, nameof(offset));
        int index = 0;
        if (_starts.Length > 1)
        {
            index = Array.BinarySearch(_starts, offset);
            if (index < 0)
                index = ~index - 1;
        }

        ref readonly MemoryRange piece = ref _pieces[index];
        long within = offset - _starts[index];
        return new MemoryRange(piece.Region, piece.Offset + within, Math.Min(length, piece.Length - within));
    }
}
