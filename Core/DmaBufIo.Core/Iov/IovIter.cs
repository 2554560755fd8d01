using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Iov;

/// <summary>
/// The memory side of a read or a write (the kernel's iov_iter). A plain struct: a request that is re-issued stores it.
/// </summary>
/// <remarks>
/// <see cref="Offset"/> is the offset into the map for a dma-buf range, and into the current segment for vectors. A map-backed iterator may be used only
/// with the operations of the file whose token made the map (I5); it does not hold the map's reference, its request does.
/// </remarks>
public struct IovIter
{
    private readonly object? _source; // the vector of the kinds that have one
    private readonly ReadOnlyMemory<BufferRange> _ranges; // of a vector over a map or a layout; here, so that a request allocates nothing
    private int _segment;
    private int _kinds; // kind and direction: one word, stored at once

    private IovIter(IovKind kind, DmaDirection direction, object? source, long offset, long count, DmaMap? map = null, ReadOnlyMemory<BufferRange> ranges = default)
    {
        _kinds = (int)kind | ((int)direction << 16);
        _source = source;
        Map = map;
        Offset = offset;
        Count = count;
        _ranges = ranges;
        _segment = 0;
    }

    /// <summary>What it goes over.</summary>
    public readonly IovKind Kind => (IovKind)(_kinds & 0xFFFF);

    /// <summary><see cref="DmaDirection.FromDevice"/> for a read (memory is the destination), <see cref="DmaDirection.ToDevice"/> for a write.</summary>
    public readonly DmaDirection Direction => (DmaDirection)(_kinds >> 16);

    /// <summary>Bytes from the start of the map, or of the current segment.</summary>
    public long Offset { get; private set; }

    /// <summary>Bytes left.</summary>
    public long Count { get; private set; }

    /// <summary>The map, for the kinds that go through one; else null.</summary>
    public DmaMap? Map { get; private set; }

    /// <summary>Index of the current segment of a vector; 0 for the other kinds.</summary>
    public readonly int Segment => _segment;

    /// <summary>One range of a map.</summary>
    /// <param name="map">The map; the caller holds a reference.</param>
    /// <param name="offset">First byte in the buffer.</param>
    /// <param name="count">Bytes.</param>
    /// <param name="direction">Read or write.</param>
    [Diagnostics.HotPath]
    public static IovIter ForMap(DmaMap map, long offset, long count, DmaDirection direction) =>
        new(IovKind.DmaBufMap, direction, null, offset, count, map);

    /// <summary>Makes it one range of a map that <see cref="Bind"/> tells later. In place: a ring's request writes what is new and leaves what is there.</summary>
    internal void SetRange(long offset, long count, DmaDirection direction)
    {
        _kinds = (int)IovKind.DmaBufMap | ((int)direction << 16);
        Offset = offset;
        Count = count;
    }

    /// <summary>The map of a range. Compared before it is stored: storing a reference costs more than a look.</summary>
    internal void Bind(DmaMap map)
    {
        if (!ReferenceEquals(Map, map))
            Map = map;
    }

    /// <summary>Ends <see cref="Bind"/>: the map of an earlier request is not kept alive.</summary>
    internal void Unbind() => Map = null;

    /// <summary>Several ranges of one map (I6).</summary>
    /// <param name="map">The map; the caller holds a reference.</param>
    /// <param name="ranges">The ranges in order; not copied, left alone until the request has ended.</param>
    /// <param name="direction">Read or write.</param>
    [Diagnostics.HotPath]
    public static IovIter ForMapRanges(DmaMap map, ReadOnlyMemory<BufferRange> ranges, DmaDirection direction)
    {
        var iter = new IovIter(IovKind.DmaBufMapVec, direction, null, 0, CountOf(ranges), map, ranges);
        iter.SkipEmpty();
        return iter;
    }

    /// <summary>One piece of application memory.</summary>
    /// <param name="memory">The memory.</param>
    /// <param name="direction">Read or write.</param>
    public static IovIter ForBuffer(Memory<byte> memory, DmaDirection direction) =>
        new(IovKind.UserBuffer, direction, new Memory<byte>[] { memory }, 0, memory.Length);

    /// <summary>Several pieces of application memory.</summary>
    /// <param name="vector">The pieces in order; not copied.</param>
    /// <param name="direction">Read or write.</param>
    public static IovIter ForIovec(Memory<byte>[] vector, DmaDirection direction) => ForVector(IovKind.Iovec, vector, direction);

    /// <summary>Several pieces of the framework's own memory.</summary>
    /// <param name="vector">The pieces in order; not copied.</param>
    /// <param name="direction">Read or write.</param>
    public static IovIter ForKernelVec(Memory<byte>[] vector, DmaDirection direction) => ForVector(IovKind.KernelVec, vector, direction);

    /// <summary>Several ranges of memory regions.</summary>
    /// <param name="vector">The ranges in order; not copied.</param>
    /// <param name="direction">Read or write.</param>
    public static IovIter ForBioVec(MemoryRange[] vector, DmaDirection direction)
    {
        var iter = new IovIter(IovKind.BioVec, direction, vector, 0, vector.Sum(static r => r.Length));
        iter.SkipEmpty();
        return iter;
    }

    /// <summary>A part of a registration's memory, piece by piece. Allocates nothing.</summary>
    /// <param name="memory">The memory.</param>
    /// <param name="offset">First byte in it. <see cref="Offset"/> counts from the start of the memory, not of the piece.</param>
    /// <param name="count">Bytes; within the memory.</param>
    /// <param name="direction">Read or write.</param>
    public static IovIter ForMemory(MemoryLayout memory, long offset, long count, DmaDirection direction) =>
        new(IovKind.BioVec, direction, memory, offset, count);

    /// <summary>Several parts of a registration's memory (I6), each piece by piece. Allocates nothing.</summary>
    /// <param name="memory">The memory.</param>
    /// <param name="ranges">The parts in order, within the memory; not copied, left alone until the request has ended.</param>
    /// <param name="direction">Read or write.</param>
    public static IovIter ForMemoryRanges(MemoryLayout memory, ReadOnlyMemory<BufferRange> ranges, DmaDirection direction)
    {
        var iter = new IovIter(IovKind.BioVec, direction, memory, 0, CountOf(ranges), null, ranges);
        iter.SkipEmpty();
        return iter;
    }

    /// <summary>Takes <paramref name="count"/> bytes and keeps nothing.</summary>
    /// <param name="count">Bytes.</param>
    public static IovIter ForDiscard(long count) => new(IovKind.Discard, DmaDirection.FromDevice, null, 0, count);

    /// <summary>True when it is any of the kinds in the mask (I1).</summary>
    /// <param name="kinds">The kinds.</param>
    [Diagnostics.HotPath]
    public readonly bool IsAny(IovKind kinds) => (Kind & kinds) != 0;

    /// <summary>The range of the map that is contiguous from here on: offset in the buffer and bytes. For the kinds that go through a map.</summary>
    [Diagnostics.HotPath]
    public readonly BufferRange CurrentRange
    {
        get
        {
            if (Kind != IovKind.DmaBufMapVec)
                return new BufferRange(Offset, Count);
            return RangeFromHere();
        }
    }

    /// <summary>The piece of a memory region that is contiguous from here on. For <see cref="IovKind.BioVec"/>.</summary>
    [Diagnostics.HotPath]
    public readonly MemoryRange CurrentMemory
    {
        get
        {
            if (_source is MemoryLayout memory)
            {
                BufferRange here = _ranges.IsEmpty ? new BufferRange(Offset, Count) : RangeFromHere();
                return memory.At(here.Offset, here.Length);
            }

            MemoryRange range = ((MemoryRange[])_source!)[_segment];
            return new MemoryRange(range.Region, range.Offset + Offset, Math.Min(Count, range.Length - Offset));
        }
    }

    /// <summary>Moves on.</summary>
    /// <param name="bytes">How far, 0 or more.</param>
    /// <returns><c>Ok</c>, or <c>EINVAL</c> when it would go past the end: then nothing has moved (I2).</returns>
    [Diagnostics.HotPath]
    public Errno Advance(long bytes)
    {
        if ((ulong)bytes > (ulong)Count)
            return Errno.EINVAL;
        Count -= bytes;
        Offset += bytes;
        if (IsAny(IovKind.DmaBufMap | IovKind.UserBuffer | IovKind.Discard))
            return Errno.Ok;
        SkipEmpty();
        return Errno.Ok;
    }

    /// <summary>Moves back.</summary>
    /// <param name="bytes">How far, 0 or more.</param>
    /// <param name="start">Where the iterator stood when it was made, from <see cref="Save"/>: it never goes before that (I2).</param>
    /// <returns><c>Ok</c>, or <c>EINVAL</c> when it would go before the start: then nothing has moved.</returns>
    public Errno Revert(long bytes, in IovIterState start)
    {
        // From the places, not from the counts: Truncate takes bytes off the count without moving.
        long moved = Offset - start.Offset;
        for (int segment = start.Segment; segment < _segment; segment++)
            moved += SegmentLength(segment);
        if (bytes < 0 || bytes > moved)
            return Errno.EINVAL;
        moved -= bytes;
        Restore(start with { Count = Count + bytes + moved });
        return Advance(moved);
    }

    /// <summary>Where it stands.</summary>
    public readonly IovIterState Save() => new(Offset, Count, _segment);

    /// <summary>Goes back to where it stood.</summary>
    /// <param name="state">From <see cref="Save"/> of the same iterator.</param>
    public void Restore(in IovIterState state)
    {
        Offset = state.Offset;
        Count = state.Count;
        _segment = state.Segment;
    }

    /// <summary>Drops bytes at the end.</summary>
    /// <param name="count">At most this many are left.</param>
    [Diagnostics.HotPath]
    public void Truncate(long count) => Count = Math.Min(Count, Math.Max(0, count));

    /// <summary>
    /// The bits of every address and length in it, or-ed: a power of two divides all of them when it divides this. A map is not an address: for a
    /// map-backed iterator the answer comes from offsets and lengths alone (I3). 0 for application memory, whose addresses may change: unknown.
    /// </summary>
    public readonly long Alignment()
    {
        long bits = 0;
        switch (Kind)
        {
            case IovKind.DmaBufMap:
                return Count == 0 ? 0 : Offset | Count;
            case IovKind.DmaBufMapVec:
                IovIter walk = this;
                while (walk.Count > 0)
                {
                    BufferRange range = walk.CurrentRange;
                    bits |= range.Offset | range.Length;
                    walk.Advance(range.Length);
                }

                return bits;
            case IovKind.BioVec:
                IovIter pieces = this;
                while (pieces.Count > 0)
                {
                    MemoryRange piece = pieces.CurrentMemory;
                    bits |= piece.Offset | piece.Length;
                    pieces.Advance(piece.Length);
                }

                return bits;
            default:
                return 0;
        }
    }

    /// <summary>The bits of the addresses at which one segment ends and the next begins, or-ed. 0 for a map-backed iterator: a map has no gaps (I3).</summary>
    public readonly long GapAlignment()
    {
        if (Kind != IovKind.BioVec)
            return 0;
        long bits = 0;
        IovIter walk = this;
        bool first = true;
        while (walk.Count > 0)
        {
            MemoryRange piece = walk.CurrentMemory;
            bits |= first ? 0 : piece.Offset;
            first = false;
            walk.Advance(piece.Length);
            bits |= walk.Count > 0 ? piece.Offset + piece.Length : 0;
        }

        return bits;
    }

    /// <summary>Copies bytes into the memory and moves on.</summary>
    /// <param name="source">The bytes.</param>
    /// <param name="copied">How many fitted.</param>
    /// <returns><c>Ok</c>; <c>EOPNOTSUPP</c> for a map-backed iterator: its memory is not the CPU's to touch (I4).</returns>
    public Errno CopyTo(ReadOnlySpan<byte> source, out int copied)
    {
        copied = 0;
        if (IsAny(IovKind.AnyDmaBuf))
            return Errno.EOPNOTSUPP;
        while (!source.IsEmpty && Count > 0)
        {
            int step;
            if (Kind == IovKind.Discard)
            {
                step = (int)Math.Min(source.Length, Count);
            }
            else
            {
                Span<byte> piece = CpuPiece();
                step = Math.Min(source.Length, piece.Length);
                source[..step].CopyTo(piece);
            }

            Advance(step);
            source = source[step..];
            copied += step;
        }

        Diagnostics.Counters.BytesCopied.Add(copied);
        return Errno.Ok;
    }

    /// <summary>Copies bytes out of the memory and moves on.</summary>
    /// <param name="destination">Where they go.</param>
    /// <param name="copied">How many there were.</param>
    /// <returns><c>Ok</c>; <c>EOPNOTSUPP</c> for a map-backed iterator (I4) and for one that discards.</returns>
    public Errno CopyFrom(Span<byte> destination, out int copied)
    {
        copied = 0;
        if (IsAny(IovKind.AnyDmaBuf | IovKind.Discard))
            return Errno.EOPNOTSUPP;
        while (!destination.IsEmpty && Count > 0)
        {
            Span<byte> piece = CpuPiece();
            int step = Math.Min(destination.Length, piece.Length);
            piece[..step].CopyTo(destination);
            Advance(step);
            destination = destination[step..];
            copied += step;
        }

        Diagnostics.Counters.BytesCopied.Add(copied);
        return Errno.Ok;
    }

    private static IovIter ForVector(IovKind kind, Memory<byte>[] vector, DmaDirection direction)
    {
        var iter = new IovIter(kind, direction, vector, 0, vector.Sum(static m => (long)m.Length));
        iter.SkipEmpty();
        return iter;
    }

    private readonly Span<byte> CpuPiece()
    {
        if (Kind == IovKind.BioVec)
        {
            MemoryRange memory = CurrentMemory;
            return memory.Region.Span(memory.Offset, (int)Math.Min(memory.Length, int.MaxValue));
        }

        Span<byte> segment = ((Memory<byte>[])_source!)[_segment].Span[(int)Offset..];
        return segment.Length <= Count ? segment : segment[..(int)Count];
    }

    private static long CountOf(ReadOnlyMemory<BufferRange> ranges)
    {
        long count = 0;
        foreach (BufferRange range in ranges.Span)
            count += range.Length;
        return count;
    }

    private readonly BufferRange RangeFromHere()
    {
        BufferRange range = _ranges.Span[_segment];
        return new BufferRange(range.Offset + Offset, Math.Min(Count, range.Length - Offset));
    }

    [Diagnostics.HotPath]
    private readonly long SegmentLength(int segment) => _source switch
    {
        null => _ranges.Span[segment].Length,
        MemoryLayout memory => _ranges.IsEmpty ? memory.Length : _ranges.Span[segment].Length,
        MemoryRange[] ranges => ranges[segment].Length,
        _ => ((Memory<byte>[])_source!)[segment].Length,
    };

    [Diagnostics.HotPath]
    private void SkipEmpty()
    {
        while (Count > 0 && Offset >= SegmentLength(_segment))
        {
            Offset -= SegmentLength(_segment);
            _segment++;
        }
    }
}
