namespace DmaBufIo.Importers.StackedRaid.Striped;

/// <summary>One member after the other.</summary>
internal sealed class LinearLayout : IStripeLayout
{
    private readonly long[] _ends; // of each member, on the set

    /// <summary>Creates the layout.</summary>
    /// <param name="capacities">Bytes of each member.</param>
    internal LinearLayout(IReadOnlyList<long> capacities)
    {
        _ends = new long[capacities.Count];
        for (int i = 0; i < _ends.Length; i++)
            _ends[i] = (i == 0 ? 0 : _ends[i - 1]) + capacities[i];
    }

    /// <inheritdoc/>
    public long Capacity => _ends[^1];

    /// <inheritdoc/>
    public long LongestPiece => long.MaxValue;

    /// <inheritdoc/>
    [Diagnostics.HotPath]
    public long Find(long offset, out int member, out long memberOffset)
    {
        long[] ends = _ends;
        int found = 0;
        while (found < ends.Length - 1 && offset >= ends[found])
            found++;
        member = found;
        memberOffset = offset - (found == 0 ? 0 : ends[found - 1]);
        return ends[found] - offset;
    }
}
