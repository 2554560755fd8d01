namespace DmaBufIo.Tokens;

/// <summary>One map over several members: a request holds one reference on it, whichever members it goes to (T16).</summary>
public sealed class CompositeMap : DmaMap
{
    private readonly DmaMap?[] _members;
    private readonly TokenDriver?[] _drivers;

    internal CompositeMap(DmaMap?[] members, TokenDriver?[] drivers, long length, long smallestSegment)
        : base(length, smallestSegment)
    {
        _members = members;
        _drivers = drivers;
    }

    /// <summary>How many members the set has.</summary>
    public int Count => _members.Length;

    /// <summary>A member's map.</summary>
    /// <param name="member">Its number in the set, from 0.</param>
    /// <returns>Null for a member that the set did without when the map was made.</returns>
    [Diagnostics.HotPath]
    public DmaMap? this[int member] => _members[member];

    /// <summary>Who made a member's map: the member may have been replaced since.</summary>
    internal TokenDriver? DriverOf(int member) => _drivers[member];
}
