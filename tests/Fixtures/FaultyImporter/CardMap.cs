using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Fixtures.FaultyImporter;

/// <summary>A buffer as the card sees it: ranges of device addresses, and where in the buffer each begins.</summary>
internal sealed class CardMap : DmaMap, ICardMemory
{
    private readonly DeviceRange[] _ranges;
    private readonly long[] _starts;
    private readonly long[] _lengths;
    private readonly Fault _fault;

    internal CardMap(DmaBuf buffer, SgTable? table, DeviceRange[] ranges, DeviceRange list, Fault fault)
        : base(buffer.Size, ranges.Min(static r => r.Length))
    {
        Buffer = buffer;
        Table = table;
        List = list;
        _ranges = ranges;
        _fault = fault;
        _starts = new long[ranges.Length];
        _lengths = new long[ranges.Length];
        long position = 0;
        for (int i = 0; i < ranges.Length; i++)
        {
            _starts[i] = position;
            _lengths[i] = fault.Is("rounds pieces down") ? ranges[i].Length & -8192 : ranges[i].Length;
            position += _lengths[i];
        }
    }

    internal DmaBuf Buffer { get; }

    /// <summary>What was mapped, given back when the map ends; null where the driver has mapped the memory itself.</summary>
    internal SgTable? Table { get; }

    internal ReadOnlySpan<DeviceRange> Ranges => _ranges;

    /// <summary>The card's own list of this map.</summary>
    internal DeviceRange List { get; }

    public Errno Move(DmaPort port, in Bio bio, Span<byte> data)
    {
        if (_fault.Is("the engine takes the lock"))
        {
            using (Buffer.Reservation.Lock())
                return MoveUnlocked(port, bio, data);
        }

        return MoveUnlocked(port, bio, data);
    }

    internal void SyncForDevice(long offset, long length) => Sync(offset, length, static (r, o, l) => r.Space.SyncForDevice(r, o, l));

    internal void SyncForCpu(long offset, long length) => Sync(offset, length, static (r, o, l) => r.Space.SyncForCpu(r, o, l));

    private Errno MoveUnlocked(DmaPort port, in Bio bio, Span<byte> data)
    {
        long offset = bio.Offset;
        if (_fault.Is("offsets of thirty bits"))
            offset &= 0x3FFF_FFFF;
        if (_fault.Is("loses the offset in the page"))
            offset &= -4096;
        bool isWrite = bio.Operation == BioOperation.Write;
        int index = Find(offset);
        long lost = 0;
        Errno moved = Errno.Ok;
        while (data.Length > 0)
        {
            if (index >= _ranges.Length || (_fault.Is("only the first 256 pieces") && index >= 256))
                return Errno.Ok; // reached only with a mistake
            long within = offset - _starts[index] + lost;
            int part = (int)Math.Min(data.Length, _lengths[index] - within);
            if (_fault.Is("forgets where it was at a joint") && data.Length > part)
                lost = within;
            ulong address = _ranges[index].Address + (ulong)within;
            if (_fault.Is("one piece only"))
                address = _ranges[0].Address + (ulong)offset;
            if (part > 0)
            {
                moved = isWrite ? port.Read(address, data[..part]) : port.Write(address, data[..part]);
                if (moved != Errno.Ok && !_fault.Is("only the last piece counts"))
                    return _fault.Is("a failed DMA is a success") ? Errno.Ok : Errno.EIO;
            }

            data = data[Math.Max(part, 0)..];
            offset += part;
            index++;
        }

        return moved == Errno.Ok ? Errno.Ok : Errno.EIO;
    }

    internal bool IsDoneEarly => _fault.Is("is done before its last piece");

    /// <summary>How many bytes of a bio lie in the last piece that it touches; all of them when it touches one.</summary>
    internal long InLastPiece(in Bio bio) => Math.Min(bio.Size, bio.Offset + bio.Size - _starts[Find(bio.Offset + bio.Size - 1)]);

    private void Sync(long offset, long length, Action<DeviceRange, long, long> sync)
    {
        if (_fault.Is("syncs everything"))
        {
            foreach (DeviceRange range in _ranges)
                sync(range, 0, range.Length);
            return;
        }

        for (int i = Find(offset); length > 0; i++)
        {
            long within = offset - _starts[i];
            long part = Math.Min(length, _lengths[i] - within);
            sync(_ranges[i], within, part);
            offset += part;
            length -= part;
        }
    }

    private int Find(long offset)
    {
        if (_fault.Is("walks from the start"))
        {
            int at = 0;
            while (at < _starts.Length - 1 && _starts[at + 1] <= offset)
                at++;
            return at;
        }

        if (_fault.Is("adds all lengths up"))
            return AddUp(offset);
        int index = Array.BinarySearch(_starts, offset);
        return index >= 0 ? index : ~index - 1;
    }

    private int AddUp(long offset)
    {
        long position = 0;
        return Array.FindLastIndex(_lengths.Select(length => (position += length) - length).ToArray(), start => start <= offset);
    }
}

/// <summary>Memory of a request that is not registered: mapped for it alone.</summary>
internal sealed class PageMemory : ICardMemory
{
    private readonly DeviceRange _range;
    private readonly long _within;
    private readonly long _length;

    internal PageMemory(DmaAddressSpace space, MemoryRegion region, in Bio bio)
    {
        long unit = space.Granularity;
        long start = bio.Offset / unit * unit;
        long end = (bio.Offset + bio.Size + unit - 1) / unit * unit;
        IsRead = bio.Operation == BioOperation.Read;
        _range = space.Map(new MemoryRange(region, start, end - start), IsRead ? DmaDirection.FromDevice : DmaDirection.ToDevice, region.Name);
        _within = bio.Offset - start;
        _length = bio.Size;
        if (!IsRead)
            space.SyncForDevice(_range, _within, _length);
    }

    private bool IsRead { get; }

    public Errno Move(DmaPort port, in Bio bio, Span<byte> data)
    {
        ulong address = _range.Address + (ulong)_within;
        return (IsRead ? port.Write(address, data) : port.Read(address, data)) == Errno.Ok ? Errno.Ok : Errno.EIO;
    }

    /// <summary>The request has ended.</summary>
    internal void Unmap()
    {
        if (IsRead)
            _range.Space.SyncForCpu(_range, _within, _length);
        _range.Space.Unmap(_range);
    }
}
