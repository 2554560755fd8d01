using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;

namespace DmaBufIo.Tokens;

/// <summary>
/// A map that is the exporter's table as it is: ranges, and where in the buffer each begins. For devices that reach memory by addresses and lengths of any alignment; what a
/// <see cref="RangeTokenDriver"/> makes.
/// </summary>
public sealed class RangeMap : DmaMap
{
    private readonly DeviceRange[] _ranges;
    private readonly long[] _starts;
    private readonly bool _isCoherent;

    private RangeMap(SgTable table, DeviceRange[] ranges, long[] starts, long length)
        : base(length, ranges.Min(static r => r.Length))
    {
        Table = table;
        _ranges = ranges;
        _starts = starts;
        _isCoherent = Array.TrueForAll(ranges, static r => r.Space.IsCoherent);
    }

    /// <summary>What was mapped; given back when the map ends.</summary>
    public SgTable Table { get; }

    /// <summary>Makes the map of a table.</summary>
    /// <param name="table">The table; stays the caller's to give back.</param>
    /// <exception cref="DmaBufIoException">The ranges do not cover the buffer (<c>EIO</c>).</exception>
    public static RangeMap Create(SgTable table)
    {
        DmaBuf buffer = table.Attachment.Buffer;
        DeviceRange[] ranges = [.. table.Ranges];
        long[] starts = new long[ranges.Length];
        long position = 0;
        for (int i = 0; i < ranges.Length; i++)
        {
            starts[i] = position;
            position += ranges[i].Length;
        }

        if (position != buffer.Size)
        {
            throw new DmaBufIoException(
                Errno.EIO,
                "Tokens",
                buffer.Name,
                $"the exporter mapped {position} bytes of a buffer of {buffer.Size}",
                "Correct the exporter: the ranges of a table cover the buffer exactly",
                rule: "N1");
        }

        return new RangeMap(table, ranges, starts, buffer.Size);
    }

    /// <summary>The device reads a part of the buffer. Caches are synchronised for that part before (N7). No allocation, no lock of its own.</summary>
    /// <param name="port">The device's end.</param>
    /// <param name="offset">First byte in the buffer, any alignment.</param>
    /// <param name="destination">Where the bytes go; the range lies in the buffer.</param>
    /// <returns><c>Ok</c>, or what the port answers.</returns>
    public Errno Read(DmaPort port, long offset, Span<byte> destination)
    {
        for (int i = Find(offset); destination.Length > 0; i++)
        {
            DeviceRange range = _ranges[i];
            long within = offset - _starts[i];
            int part = (int)Math.Min(destination.Length, range.Length - within);
            if (!_isCoherent)
                range.Space.SyncForDevice(range, within, part);
            Errno status = port.Read(range.Address + (ulong)within, destination[..part]);
            if (status != Errno.Ok)
                return status;
            destination = destination[part..];
            offset += part;
        }

        return Errno.Ok;
    }

    /// <summary>The device writes a part of the buffer. Caches are synchronised for that part after (N7). No allocation, no lock of its own.</summary>
    /// <param name="port">The device's end.</param>
    /// <param name="offset">First byte in the buffer, any alignment.</param>
    /// <param name="source">The bytes; the range lies in the buffer.</param>
    /// <returns><c>Ok</c>, or what the port answers.</returns>
    public Errno Write(DmaPort port, long offset, ReadOnlySpan<byte> source)
    {
        for (int i = Find(offset); source.Length > 0; i++)
        {
            DeviceRange range = _ranges[i];
            long within = offset - _starts[i];
            int part = (int)Math.Min(source.Length, range.Length - within);
            Errno status = port.Write(range.Address + (ulong)within, source[..part]);
            if (status != Errno.Ok)
                return status;
            if (!_isCoherent)
                range.Space.SyncForCpu(range, within, part);
            source = source[part..];
            offset += part;
        }

        return Errno.Ok;
    }

    // A search by halves: the cost does not depend on where in the buffer the part lies (N4).
    private int Find(long offset)
    {
        if (_starts.Length == 1)
            return 0;
        int index = Array.BinarySearch(_starts, offset);
        return index >= 0 ? index : ~index - 1;
    }
}
