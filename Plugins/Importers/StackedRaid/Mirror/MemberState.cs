namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <summary>How a member of a mirror stands. The numbers are written to superblocks.</summary>
internal enum MemberState
{
    /// <summary>Dropped, or never there: not read and not written.</summary>
    Missing = 0,

    /// <summary>Gets all writes, and what it lacks is being copied to it; not read.</summary>
    Rebuilding = 1,

    /// <summary>Holds everything.</summary>
    InSync = 2,
}
