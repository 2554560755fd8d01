namespace DmaBufIo.Importers.StackedRaid.Striped;

/// <summary>RAID 0: chunks dealt out to the members in turn.</summary>
internal sealed class ChunkLayout : IStripeLayout
{
    private readonly int _members;
    private readonly int _shift;
    private readonly long _mask;

    /// <summary>Creates the layout.</summary>
    /// <param name="members">How many members.</param>
    /// <param name="chunk">Bytes of a chunk, a power of two.</param>
    /// <param name="memberCapacity">Bytes of the smallest member; what is left over beyond whole chunks stays unused.</param>
    internal ChunkLayout(int members, long chunk, long memberCapacity)
    {
        _members = members;
        _shift = (int)long.Log2(chunk);
        _mask = chunk - 1;
        Capacity = (memberCapacity & ~_mask) * members;
    }

    /// <inheritdoc/>
    public long Capacity { get; }

    /// <inheritdoc/>
    public long LongestPiece => _mask + 1;

    /// <inheritdoc/>
    [Diagnostics.HotPath]
    public long Find(long offset, out int member, out long memberOffset)
    {
        long chunk = offset >> _shift;
        long within = offset & _mask;

        // A division of 32 bits costs a fraction of one of 64.
        long row;
        if (chunk <= uint.MaxValue)
        {
            uint quotient = (uint)chunk / (uint)_members;
            row = quotient;
            member = (int)((uint)chunk - (quotient * (uint)_members));
        }
        else
        {
            row = chunk / _members;
            member = (int)(chunk - (row * _members));
        }

        memberOffset = (row << _shift) + within;
        return _mask + 1 - within;
    }
}
