using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Regions;

/// <summary>A buffer as a card sees it: the exporter's ranges and where in the buffer each begins. Any alignment.</summary>
internal sealed class RnicDmaMap : DmaMap
{
    private readonly DeviceRange[] _ranges;
    private readonly long[] _starts;
    private readonly bool _isCoherent;

    private RnicDmaMap(SgTable table, DeviceRange[] ranges, long[] starts, long length)
        : base(length, ranges.Min(static r => r.Length))
    {
        Table = table;
        _ranges = ranges;
        _starts = starts;
        _isCoherent = Array.TrueForAll(ranges, static r => r.Space.IsCoherent);
    }

    /// <summary>What was mapped; given back when the map ends.</summary>
    internal SgTable Table { get; }

    /// <summary>Makes the map of a table.</summary>
    /// <exception cref="DmaBufIoException">The ranges do not cover the buffer (<c>EIO</c>).</exception>
    internal static RnicDmaMap Create(SgTable table)
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
            throw RnicError.Make(
                Errno.EIO, buffer.Name, $"the exporter mapped {position} bytes of a buffer of {buffer.Size}", "Correct the exporter: the ranges of a table cover the buffer exactly");
        }

        return new RnicDmaMap(table, ranges, starts, buffer.Size);
    }

    /// <summary>The card reads a part of the buffer, which lies in it.</summary>
    internal Errno Read(DmaPort port, long offset, Span<byte> packet)
    {
        for (int i = Find(offset); packet.Length > 0; i++)
        {
            DeviceRange range = _ranges[i];
            long within = offset - _starts[i];
            int part = (int)Math.Min(packet.Length, range.Length - within);
            if (!_isCoherent)
                range.Space.SyncForDevice(range, within, part);
            Errno status = port.Read(range.Address + (ulong)within, packet[..part]);
            if (status != Errno.Ok)
                return status;
            packet = packet[part..];
            offset += part;
        }

        return Errno.Ok;
    }

    /// <summary>The card writes a part of the buffer, which lies in it.</summary>
    internal Errno Write(DmaPort port, long offset, ReadOnlySpan<byte> packet)
    {
        for (int i = Find(offset); packet.Length > 0; i++)
        {
            DeviceRange range = _ranges[i];
            long within = offset - _starts[i];
            int part = (int)Math.Min(packet.Length, range.Length - within);
            Errno status = port.Write(range.Address + (ulong)within, packet[..part]);
            if (status != Errno.Ok)
                return status;
            if (!_isCoherent)
                range.Space.SyncForCpu(range, within, part);
            packet = packet[part..];
            offset += part;
        }

        return Errno.Ok;
    }

    // A search by halves: the cost does not depend on where in the buffer the packet lies (N4).
    private int Find(long offset)
    {
        if (_starts.Length == 1)
            return 0;
        int index = Array.BinarySearch(_starts, offset);
        return index >= 0 ? index : ~index - 1;
    }
}
