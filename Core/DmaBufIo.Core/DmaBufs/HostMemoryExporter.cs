using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.DmaBufs;

/// <summary>
/// The application's own memory as a buffer, so that it takes the same way as a foreign one: token, map, reference (PROTOCOL §9). It never moves, and it is
/// never freed here: the region stays the application's.
/// </summary>
/// <remarks>
/// One buffer per region while anyone holds a reference on it: registrations with several files share it, and with it the attachment and the mapping of
/// each device.
/// </remarks>
internal sealed class HostMemoryExporter : DmaBufExporter
{
    private static readonly Lock s_lock = new();
    private static readonly Dictionary<MemoryRegion, DmaBuf> s_buffers = [];
    private readonly MemoryRange[] _memory;

    private HostMemoryExporter(MemoryRegion region) => _memory = [new MemoryRange(region, 0, region.Length)];

    /// <summary>The buffer of a region, with one reference for the caller.</summary>
    internal static DmaBuf Export(MemoryRegion region)
    {
        if (region.File.IsClosed)
            throw new DmaBufIoException(Errno.EBADF, "DmaBufs", region.Name, "the memory region was disposed", "Keep the region until its registrations have ended", rule: "R1");
        lock (s_lock)
        {
            // One whose last reference is just being dropped is on its way out and is not taken any more.
            if (s_buffers.TryGetValue(region, out DmaBuf? known) && known.TryGet())
                return known;
            var buffer = new DmaBuf(region.Name, region.Length, new HostMemoryExporter(region));
            s_buffers[region] = buffer;
            return buffer;
        }
    }

    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held) => MapMemory(attachment, direction, _memory);

    public override void Unmap(SgTable table, in HeldReservation held) => UnmapMemory(table);

    public override BufferBacking Describe() => new(BackingKind.HostMemory, _memory, CanMove: false);

    public override void Release()
    {
        lock (s_lock)
        {
            if (s_buffers.TryGetValue(_memory[0].Region, out DmaBuf? found) && ReferenceEquals(found.Exporter, this))
                s_buffers.Remove(_memory[0].Region);
        }
    }
}
