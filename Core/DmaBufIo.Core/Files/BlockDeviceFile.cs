using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Files;

/// <summary>A block device opened as a file: forwards the token operation to the device (B6), turns reads and writes into bios.</summary>
public sealed class BlockDeviceFile : IoFile
{
    /// <summary>Opens a device.</summary>
    /// <param name="device">The device; outlives the file.</param>
    /// <param name="flags">How it is opened.</param>
    public BlockDeviceFile(BlockDevice device, OpenFlags flags = OpenFlags.Direct)
        : base(device.Name, flags) => Device = device;

    /// <summary>The device.</summary>
    public BlockDevice Device { get; }

    /// <inheritdoc/>
    public override long Size => Device.Capacity;

    /// <inheritdoc/>
    public override int BlockSize => Device.Limits.LogicalBlockSize;

    /// <inheritdoc/>
    public override int MemoryAlignment => Device.Limits.DmaAlignment;

    /// <inheritdoc/>
    public override bool IsRemoved => Device.IsRemoved;

    /// <inheritdoc/>
    public override FileQueue OpenQueue(IoContext context, BioPool bios, int depth) =>
        new BlockDeviceFileQueue(this, bios, Device.OpenQueue(context, bios, depth));

    /// <inheritdoc/>
    protected override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => Device.CreateToken(buffer, direction);
}
