using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Udmabuf.Native;
using DmaBufIo.Memory;
using DmaBufIo.Native;
using DmaBufIo.Plugins;

namespace DmaBufIo.Exporters.Udmabuf;

/// <summary>
/// A buffer over ranges of sealed memory files. It never moves. Where /dev/udmabuf exists, the kernel makes a dma-buf of it as well; elsewhere the
/// memory file stands in for the dma-buf, under the same rules.
/// </summary>
internal sealed class UdmabufExporter : DmaBufExporter
{
    private readonly List<MemoryRegion> _regions = [];
    private readonly List<MemoryRange> _memory = [];
    private readonly BackingKind _kind;

    private UdmabufExporter(BackingKind kind) => _kind = kind;

    /// <summary>Checks the driver's rules and makes the buffer.</summary>
    /// <param name="name">A name for messages.</param>
    /// <param name="ranges">The memory.</param>
    /// <param name="limits">The driver's limits.</param>
    /// <param name="useKernel">True: through /dev/udmabuf.</param>
    internal static DmaBuf Create(string name, IReadOnlyList<MemoryFileRange> ranges, UdmabufLimits limits, bool useKernel)
    {
        long size = Check(name, ranges, limits);
        var exporter = new UdmabufExporter(useKernel ? BackingKind.KernelUdmabuf : BackingKind.HostMemory);
        MemfdHandle? descriptor = null;
        try
        {
            foreach (MemoryFileRange range in ranges)
                exporter.Add(name, range);
            descriptor = useKernel ? UdmabufDevice.Create(name, ranges) : exporter._regions.Count == 1 ? MemfdHandle.Duplicate(ranges[0].File) : null;
            return new DmaBuf(name, size, exporter, descriptor);
        }
        catch
        {
            descriptor?.Dispose();
            exporter.Release();
            throw;
        }
    }

    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held) => MapMemory(attachment, direction, _memory);

    public override void Unmap(SgTable table, in HeldReservation held) => UnmapMemory(table);

    public override BufferBacking Describe() => new(_kind, _memory, CanMove: false);

    public override void Release()
    {
        foreach (MemoryRegion region in _regions)
            region.Dispose();
    }

    private static long Check(string name, IReadOnlyList<MemoryFileRange> ranges, UdmabufLimits limits)
    {
        int page = MemoryRegion.PageSize;
        if (ranges.Count == 0 || ranges.Count > limits.Ranges)
            throw Refused(name, $"{ranges.Count} ranges were given", $"Give 1 to {limits.Ranges} ranges");
        long size = 0;
        for (int i = 0; i < ranges.Count; i++)
        {
            MemoryFileRange range = ranges[i];
            string text = $"{range.Offset}+{range.Length} (range {i})";
            if (range.Length <= 0 || range.Length % page != 0 || range.Offset < 0 || range.Offset % page != 0)
                throw Refused(name, $"offset and length must be multiples of the page size ({page}), the length positive", "Align the range to whole pages", text);
            if (!range.File.IsSealedAgainstShrinking)
                throw Refused(name, "the memory file is not sealed against shrinking", "Add the seal F_SEAL_SHRINK before exporting the file", text);
            if (range.Offset > range.File.Length - range.Length)
                throw Refused(name, $"the range leaves its file of {range.File.Length} bytes", "Give a range inside the file", text);
            size += range.Length;
            if (size > limits.Bytes)
                throw Refused(name, $"the buffer is larger than the driver's limit of {limits.Bytes} bytes", "Ask for a smaller buffer, or raise the limit: udmabuf:limit=SIZE, or the module parameter size_limit_mb of the kernel's driver", text);
        }

        return size;
    }

    private static DmaBufIoException Refused(string name, string problem, string remedy, string? range = null) =>
        new(Errno.EINVAL, "udmabuf", name, problem, remedy, range);

    private void Add(string name, MemoryFileRange range)
    {
        MemoryRegion? region = _regions.Find(r => r.File.IsSameFile(range.File));
        if (region is null)
        {
            region = MemoryRegion.FromFile(name, MemfdHandle.Duplicate(range.File), range.File.Length / MemoryRegion.PageSize * MemoryRegion.PageSize);
            _regions.Add(region);
        }

        _memory.Add(new MemoryRange(region, range.Offset, range.Length));
    }
}

/// <summary>The limits of the driver.</summary>
/// <param name="Bytes">The largest buffer.</param>
/// <param name="Ranges">The most ranges.</param>
internal readonly record struct UdmabufLimits(long Bytes, int Ranges)
{
    /// <summary>The defaults of the kernel's driver: 64 MiB and 1,024 ranges (drivers/dma-buf/udmabuf.c).</summary>
    internal static UdmabufLimits Default => new(64L << 20, 1024);
}
