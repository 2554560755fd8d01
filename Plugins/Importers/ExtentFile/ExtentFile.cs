using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Files;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.ExtentFile;

/// <summary>An open file of a volume. It attaches no buffer itself: on one device it forwards the token operation, over several there is one composite map.</summary>
internal sealed class ExtentFile : IoFile
{
    private readonly BlockDevice[] _devices;
    private readonly ExtentEntry _entry;
    private readonly Action _closed;

    internal ExtentFile(IReadOnlyList<BlockDevice> devices, ExtentEntry entry, OpenFlags flags, Action closed)
        : base($"{entry.Name}@{string.Join(",", devices.Select(static d => d.Name))}", flags)
    {
        _devices = [.. devices];
        BlockSize = devices.Max(static d => d.Limits.LogicalBlockSize);
        MemoryAlignment = devices.Max(static d => d.Limits.DmaAlignment);
        _entry = entry;
        _closed = closed;
    }

    /// <inheritdoc/>
    public override long Size => _entry.Size;

    /// <inheritdoc/>
    public override int BlockSize { get; }

    /// <inheritdoc/>
    public override int MemoryAlignment { get; }

    /// <inheritdoc/>
    public override bool IsRemoved
    {
        get
        {
            foreach (BlockDevice device in _devices)
            {
                if (device.IsRemoved)
                    return true;
            }

            return false;
        }
    }

    /// <inheritdoc/>
    public override FileQueue OpenQueue(IoContext context, BioPool bios, int depth)
    {
        var queues = new List<BlockQueue>();
        try
        {
            foreach (BlockDevice device in _devices)
                queues.Add(device.OpenQueue(context, bios, depth));
        }
        catch
        {
            foreach (BlockQueue queue in queues)
                queue.Dispose();
            throw;
        }

        return new ExtentFileQueue(this, bios, queues, _devices.Select(static d => d.Limits).Aggregate(static (all, d) => all.Stack(d)), _entry.Extents);
    }

    /// <inheritdoc/>
    protected override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => _devices.Length == 1
        ? _devices[0].CreateToken(buffer, direction)
        : new CompositeTokenDriver(buffer, direction, Name, [.. _devices.Select(static d => new CompositeMember(d.Name, d.CreateToken))]);

    /// <inheritdoc/>
    protected override void Close() => _closed();
}
