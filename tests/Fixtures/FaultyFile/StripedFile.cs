using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Files;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Fixtures.FaultyFile;

/// <summary>A file in stripes. It attaches nothing itself: the token operation goes to the disks.</summary>
internal sealed class StripedFile(string name, IReadOnlyList<BlockDevice> disks, OpenFlags flags, Fault fault) : IoFile(name, flags)
{
    internal const int Header = 64 << 10;
    internal const int Stripe = 16 << 10;

    // The last stripe of each disk is left free, and a part of the one before it: the file ends in the middle of one.
    public override long Size => ((disks.Count * ((disks.Min(static d => d.Capacity) - Header) / Stripe - 1) * Stripe) - 4096) / BlockSize * BlockSize;

    public override int BlockSize => Math.Max(Block, disks.Max(static d => d.Limits.LogicalBlockSize));

    public override int MemoryAlignment => Math.Max(Alignment, disks.Max(static d => d.Limits.DmaAlignment));

    public override bool IsRemoved => !fault.Is("does-not-say-that-it-is-gone") && disks.Any(static d => d.IsRemoved);

    /// <summary>Memory offsets are multiples of it, at least.</summary>
    internal int Alignment { get; init; }

    /// <summary>Requests are multiples of it, at least.</summary>
    internal int Block { get; init; }

    /// <summary>One disk is flushed after the other.</summary>
    internal bool FlushesInTurn { get; init; }

    public override FileQueue OpenQueue(IoContext context, BioPool bios, int depth)
    {
        if (fault.Is("takes-a-reference-on-itself"))
            Get();
        var queues = new List<BlockQueue>();
        try
        {
            foreach (BlockDevice disk in disks)
                queues.Add(disk.OpenQueue(context, bios, depth));
        }
        catch
        {
            foreach (BlockQueue queue in queues)
                queue.Dispose();
            throw;
        }

        QueueLimits limits = disks.Select(static d => d.Limits).Aggregate(static (all, d) => all.Stack(d));
        limits = limits with { LogicalBlockSize = BlockSize, DmaAlignment = MemoryAlignment };
        FlushesInTurn? flushes = FlushesInTurn ? new FlushesInTurn(context, bios, disks) : null;
        return new StripedQueue(this, bios, queues, limits, disks.Any(static d => d.IsReadOnly), fault, flushes);
    }

    /// <summary>Where a byte of the file lies, and how many follow it there.</summary>
    internal static (int Disk, long Offset, long Left) Find(long offset, int disks)
    {
        long stripe = offset / Stripe;
        long within = offset % Stripe;
        return ((int)(stripe % disks), Header + (stripe / disks * Stripe) + within, Stripe - within);
    }

    protected override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => disks.Count == 1
        ? disks[0].CreateToken(buffer, direction)
        : new CompositeTokenDriver(buffer, direction, Name, [.. disks.Select(static d => new CompositeMember(d.Name, d.CreateToken))]);
}
