using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.NvmePci.Tokens;

/// <summary>A buffer as an NVMe controller sees it: the device address of every controller page, in one array that is allocated with the
/// map (N1).</summary>
internal sealed class NvmeDmaMap : DmaMap
{
    private readonly long[] _starts;

    private NvmeDmaMap(SgTable table, DmaDevice device, ulong[] pages, long[] starts, long length, long smallestSegment)
        : base(length, smallestSegment)
    {
        Table = table;
        Direction = table.Direction;
        if ((Direction & DmaDirection.FromDevice) != 0)
            Operations |= 1 << (int)BioOperation.Read;
        if ((Direction & DmaDirection.ToDevice) != 0)
            Operations |= 1 << (int)BioOperation.Write;
        Device = device;
        Pages = pages;
        _starts = starts;
    }

    /// <summary>What was mapped; given back when the map ends.</summary>
    internal SgTable Table { get; }

    /// <summary>The controller that the addresses are for.</summary>
    internal DmaDevice Device { get; }

    /// <summary>The device address of each controller page, in buffer order.</summary>
    internal ulong[] Pages { get; }

    /// <summary>The accesses the controller is allowed.</summary>
    internal DmaDirection Direction { get; }

    /// <summary>The same as bits by <see cref="BioOperation"/>.</summary>
    internal int Operations { get; }

    /// <summary>Makes the map of a table.</summary>
    /// <param name="table">The mapping; its ranges may have any length.</param>
    /// <param name="device">The controller.</param>
    /// <param name="pageShift">The controller page as a power of two (P1).</param>
    /// <exception cref="DmaBufIoException">A joint between ranges is not on a controller page, so PRP cannot describe it
    /// (<c>EOPNOTSUPP</c>, N9, P10).</exception>
    internal static NvmeDmaMap Create(SgTable table, DmaDevice device, int pageShift)
    {
        long pageSize = 1L << pageShift;
        DmaBuf buffer = table.Attachment.Buffer;
        IReadOnlyList<DeviceRange> ranges = table.Ranges;
        var pages = new ulong[(buffer.Size + pageSize - 1) >> pageShift];
        long[] starts = new long[ranges.Count];
        long position = 0;
        long run = 0;
        long smallest = long.MaxValue;
        for (int i = 0; i < ranges.Count; i++)
        {
            DeviceRange range = ranges[i];
            bool isLast = i == ranges.Count - 1;
            if ((range.Address & (ulong)(pageSize - 1)) != 0 || (!isLast && (range.Length & (pageSize - 1)) != 0))
                throw Unaligned(buffer, device, range, position, pageSize);
            if (range.Length > buffer.Size - position)
                throw WrongLength(buffer, position + range.Length);
            starts[i] = position;
            bool continues = i > 0 && ranges[i - 1].Address + (ulong)ranges[i - 1].Length == range.Address;
            if (!continues && i > 0)
                smallest = Math.Min(smallest, run);
            run = continues ? run + range.Length : range.Length;
            for (long at = 0; at < range.Length; at += pageSize)
                pages[(position + at) >> pageShift] = range.Address + (ulong)at;
            position += range.Length;
        }

        if (position != buffer.Size)
            throw WrongLength(buffer, position);
        return new NvmeDmaMap(table, device, pages, starts, buffer.Size, Math.Min(smallest, run));
    }

    /// <summary>Makes the CPU's writes to a part of the buffer visible to the controller (N7).</summary>
    internal void SyncForDevice(long offset, long length)
    {
        for (int i = Find(offset); length > 0; i++)
        {
            DeviceRange range = Table.Ranges[i];
            long within = offset - _starts[i];
            long part = Math.Min(length, range.Length - within);
            range.Space.SyncForDevice(range, within, part);
            offset += part;
            length -= part;
        }
    }

    /// <summary>Makes the controller's writes to a part of the buffer visible to the CPU (N7).</summary>
    internal void SyncForCpu(long offset, long length)
    {
        for (int i = Find(offset); length > 0; i++)
        {
            DeviceRange range = Table.Ranges[i];
            long within = offset - _starts[i];
            long part = Math.Min(length, range.Length - within);
            range.Space.SyncForCpu(range, within, part);
            offset += part;
            length -= part;
        }
    }

    // Only for spaces that are not coherent. A search by halves: the cost does not depend on where in the buffer the request lies (N4).
    private int Find(long offset)
    {
        int index = Array.BinarySearch(_starts, offset);
        return index >= 0 ? index : ~index - 1;
    }

    private static DmaBufIoException Unaligned(DmaBuf buffer, DmaDevice device, DeviceRange range, long position, long pageSize) => new(
        Errno.EOPNOTSUPP,
        NvmePciPlugin.PluginName,
        $"{buffer.Name} on {device.Name}",
        $"a segment at device address 0x{range.Address:x} does not begin and end on controller pages ({pageSize} bytes), as PRP needs",
        "Export the buffer in whole controller pages",
        range: $"{position}+{range.Length}",
        rule: "N9");

    private static DmaBufIoException WrongLength(DmaBuf buffer, long length) => new(
        Errno.EIO,
        NvmePciPlugin.PluginName,
        buffer.Name,
        $"the exporter mapped {length} bytes of a buffer of {buffer.Size}",
        "Correct the exporter: the ranges of a table cover the buffer exactly");
}
