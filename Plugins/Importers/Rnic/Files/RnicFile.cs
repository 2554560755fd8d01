using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Importers.Rnic.Queues;
using DmaBufIo.Importers.Rnic.Regions;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Files;

/// <summary>A queue pair as a file. The card takes the references on maps, packet by packet: a read that waits for a message keeps no buffer in place (T15).</summary>
internal sealed class RnicFile(RnicQueuePair pair, OpenFlags flags) : IoFile(pair.ToString(), flags)
{
    private int _hasQueue;

    /// <summary>A connection has no size.</summary>
    public override long Size => 0;

    /// <inheritdoc/>
    public override int BlockSize => 1;

    /// <inheritdoc/>
    public override int MemoryAlignment => 1;

    /// <inheritdoc/>
    public override bool IsRemoved => pair.Device.IsRemoved;

    /// <inheritdoc/>
    public override bool IsPaged => true;

    /// <inheritdoc/>
    public override FileQueue OpenQueue(IoContext context, BioPool bios, int depth) => Interlocked.Exchange(ref _hasQueue, 1) == 0
        ? new RnicFileQueue(this, pair, bios)
        : throw RnicError.Make(Errno.EBUSY, Name, "another ring uses the file", "Use that ring, or another queue pair");

    internal void QueueClosed() => Volatile.Write(ref _hasQueue, 0);

    /// <inheritdoc/>
    protected override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => new RangeTokenDriver(buffer, direction, pair.Device.Device);

    /// <inheritdoc/>
    protected override void Close() => pair.FileClosed();
}
