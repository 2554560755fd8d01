namespace DmaBufIo.Importers.StackedRaid.Striped;

/// <summary>Which member holds what: translates places on the set into places on its members.</summary>
internal interface IStripeLayout
{
    /// <summary>Bytes of the set.</summary>
    long Capacity { get; }

    /// <summary>Bytes that lie together on one member, at most, wherever they begin.</summary>
    long LongestPiece { get; }

    /// <summary>The place of a byte.</summary>
    /// <param name="offset">On the set, in bytes; less than <see cref="Capacity"/>.</param>
    /// <param name="member">The member.</param>
    /// <param name="memberOffset">On the member, in bytes.</param>
    /// <returns>How many bytes from there on lie together on the member.</returns>
    long Find(long offset, out int member, out long memberOffset);
}
