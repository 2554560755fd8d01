using DmaBufIo.Errors;

namespace DmaBufIo.Pci.Model.Stores;

/// <summary>
/// A volatile write cache in front of a store: what is written lies here until it is flushed or crowded out, and a crash keeps any subset of it, block by block.
/// </summary>
/// <remarks>
/// A ring of versions of logical blocks, oldest first; <c>_latest</c> finds the newest version of a block. A full ring writes its oldest to the store, so that an older version never comes
/// after a newer one. Nothing is allocated after construction. Called by one thread at a time, like every store.
/// </remarks>
internal sealed class WriteCacheStore : INamespaceStore
{
    private readonly INamespaceStore _inner;
    private readonly int _blockShift;
    private readonly int _capacity;
    private readonly byte[] _data;
    private readonly long[] _blocks; // by place in the ring
    private readonly Dictionary<long, long> _latest; // block to number of its newest version
    private long _first; // number of the oldest version
    private long _next;

    internal WriteCacheStore(INamespaceStore inner, int blockSize, long bytes)
    {
        _inner = inner;
        _blockShift = int.Log2(blockSize);
        _capacity = checked((int)Math.Max(1, bytes >> _blockShift));
        _data = new byte[checked(_capacity << _blockShift)];
        _blocks = new long[_capacity];
        _latest = new Dictionary<long, long>(_capacity);
        Length = inner.Length;
    }

    /// <inheritdoc/>
    public long Length { get; private set; }

    private int BlockSize => 1 << _blockShift;

    /// <inheritdoc/>
    public Errno Read(long position, Span<byte> destination)
    {
        while (!destination.IsEmpty)
        {
            long block = position >> _blockShift;
            int offset = (int)(position & (BlockSize - 1));
            int part = Math.Min(destination.Length, BlockSize - offset);
            if (_latest.TryGetValue(block, out long number))
            {
                Version(number).Slice(offset, part).CopyTo(destination);
            }
            else
            {
                Errno status = _inner.Read(position, destination[..part]);
                if (status != Errno.Ok)
                    return status;
            }

            destination = destination[part..];
            position += part;
        }

        return Errno.Ok;
    }

    /// <inheritdoc/>
    public Errno Write(long position, ReadOnlySpan<byte> source)
    {
        while (!source.IsEmpty)
        {
            long block = position >> _blockShift;
            int offset = (int)(position & (BlockSize - 1));
            int part = Math.Min(source.Length, BlockSize - offset);

            // The pieces of one command follow each other: one that begins within a block goes on with what the piece before has begun. A block is written whole or not at all.
            Errno status = offset != 0 && _latest.TryGetValue(block, out long number) ? Errno.Ok : Add(block, isWhole: part == BlockSize, out number);
            if (status != Errno.Ok)
                return status;
            source[..part].CopyTo(Version(number)[offset..]);
            source = source[part..];
            position += part;
        }

        Length = Math.Max(Length, position);
        return Errno.Ok;
    }

    /// <inheritdoc/>
    public Errno Zero(long position, long length, bool extend)
    {
        // Ranges may be larger than any cache: what is here goes to the store first, so that order is kept.
        Errno status = Drain();
        if (status == Errno.Ok)
            status = _inner.Zero(position, length, extend);
        Length = Math.Max(Length, _inner.Length);
        return status;
    }

    /// <inheritdoc/>
    public Errno Flush()
    {
        Errno status = Drain();
        return status == Errno.Ok ? _inner.Flush() : status;
    }

    /// <summary>Power is lost: of each block one of its versions survives, or what was in the store before.</summary>
    /// <param name="seed">The same seed on the same contents keeps the same.</param>
    internal CrashReport Crash(ulong seed)
    {
        var random = new Random(unchecked((int)(seed ^ (seed >> 32))));
        var byBlock = new SortedDictionary<long, List<long>>();
        for (long number = _first; number < _next; number++)
        {
            long block = _blocks[number % _capacity];
            if (!byBlock.TryGetValue(block, out List<long>? versions))
                byBlock.Add(block, versions = []);
            versions.Add(number);
        }

        int kept = 0;
        Errno status = Errno.Ok;
        foreach ((long block, List<long> versions) in byBlock)
        {
            int chosen = random.Next(versions.Count + 1) - 1;
            if (chosen < 0)
                continue;
            kept += chosen == versions.Count - 1 ? 1 : 0;
            Errno one = _inner.Write(block << _blockShift, Version(versions[chosen]));
            if (status == Errno.Ok)
                status = one;
        }

        var report = new CrashReport(byBlock.Count, kept, status);
        _first = _next;
        _latest.Clear();
        return report;
    }

    public void Dispose() => _inner.Dispose();

    private Span<byte> Version(long number) => _data.AsSpan((int)(number % _capacity) << _blockShift, BlockSize);

    private Errno Add(long block, bool isWhole, out long number)
    {
        number = _next;
        if (_next - _first == _capacity)
        {
            Errno status = EvictOldest();
            if (status != Errno.Ok)
                return status;
        }

        if (!isWhole)
        {
            Errno status = Read(block << _blockShift, Version(number));
            if (status != Errno.Ok)
                return status;
        }

        _blocks[number % _capacity] = block;
        _latest[block] = number;
        _next++;
        return Errno.Ok;
    }

    private Errno EvictOldest()
    {
        long block = _blocks[_first % _capacity];
        Errno status = _inner.Write(block << _blockShift, Version(_first));
        if (status != Errno.Ok)
            return status;
        if (_latest[block] == _first)
            _latest.Remove(block);
        _first++;
        return Errno.Ok;
    }

    private Errno Drain()
    {
        while (_first < _next)
        {
            Errno status = EvictOldest();
            if (status != Errno.Ok)
                return status;
        }

        return Errno.Ok;
    }
}
