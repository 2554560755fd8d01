using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.StackedRaid.Striped;

/// <summary>A set without redundancy: RAID 0 or linear. Every byte lies on one member; without any of them the set is gone.</summary>
internal sealed class StripedDevice : BlockDevice
{
    // A bio becomes so many pieces at most: what one request can keep busy is bounded.
    private const int MostPieces = 32;

    private readonly BlockDevice[] _members;
    private readonly CompositeMember[] _composite;
    private readonly string _kind;

    internal StripedDevice(string name, string kind, IReadOnlyList<BlockDevice> members, IStripeLayout layout)
    {
        Name = name;
        _kind = kind;
        _members = [.. members];
        _composite = [.. members.Select(static m => new CompositeMember(m.Name, m.CreateToken))];
        Layout = layout;
        QueueLimits limits = members.Skip(1).Aggregate(members[0].Limits, static (all, m) => all.Stack(m.Limits));
        LongestPiece = (int)Math.Min(limits.MaxBytes, layout.LongestPiece);

        // A chunk is a whole number of pieces, or a bio could be cut into more of them than it is as long as.
        if (layout.LongestPiece != long.MaxValue)
            LongestPiece = 1 << System.Numerics.BitOperations.Log2((uint)LongestPiece);

        // Larger than a member takes at once, so that one request keeps several members busy. One piece more when it begins within a chunk.
        long largest = layout.LongestPiece == long.MaxValue ? LongestPiece : Math.Min((long)LongestPiece * members.Count, (long)LongestPiece * (MostPieces - 2));
        int block = limits.LogicalBlockSize;
        Limits = limits with { MaxBytes = (int)Math.Max(block, Math.Min(largest, int.MaxValue) & -block) };
        PiecesPerBio = (int)((Limits.MaxBytes + (long)LongestPiece - 1) / LongestPiece) + 1;
        Capacity = layout.Capacity & -block;
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override long Capacity { get; }

    /// <inheritdoc/>
    public override QueueLimits Limits { get; }

    /// <inheritdoc/>
    public override bool IsReadOnly
    {
        get
        {
            foreach (BlockDevice member in _members)
            {
                if (member.IsReadOnly)
                    return true;
            }

            return false;
        }
    }

    /// <inheritdoc/>
    public override bool IsRemoved
    {
        get
        {
            foreach (BlockDevice member in _members)
            {
                if (member.IsRemoved)
                    return true;
            }

            return false;
        }
    }

    /// <inheritdoc/>
    public override string Description => $"{_kind} over {string.Join(", ", _members.Select(static m => m.Name))}";

    /// <summary>The members in order.</summary>
    internal IReadOnlyList<BlockDevice> Members => _members;

    /// <summary>Where the bytes lie.</summary>
    internal IStripeLayout Layout { get; }

    /// <summary>Bytes of the longest piece that a member is given.</summary>
    internal int LongestPiece { get; }

    /// <summary>Pieces of one bio, at most.</summary>
    internal int PiecesPerBio { get; }

    /// <inheritdoc/>
    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth) => new StripedQueue(this, context, bios, depth);

    /// <inheritdoc/>
    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => new CompositeTokenDriver(buffer, direction, Name, _composite);
}
