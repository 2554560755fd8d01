namespace DmaBufIo.Iov;

/// <summary>What an iterator goes over. One bit each, so that a test on several kinds at once is one mask test (I1).</summary>
/// <remarks>The kernel's folio queue and xarray iterators go over its page cache; user space has no counterpart, so they are not here.</remarks>
[Flags]
public enum IovKind
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>One piece of application memory.</summary>
    UserBuffer = 1 << 0,

    /// <summary>Several pieces of application memory.</summary>
    Iovec = 1 << 1,

    /// <summary>Several pieces of the framework's own memory.</summary>
    KernelVec = 1 << 2,

    /// <summary>Several ranges of memory regions: memory that devices can reach.</summary>
    BioVec = 1 << 3,

    /// <summary>Takes anything and keeps nothing; destination only.</summary>
    Discard = 1 << 4,

    /// <summary>One range of a registered buffer, through a map.</summary>
    DmaBufMap = 1 << 5,

    /// <summary>Several ranges of a registered buffer, through one map (I6).</summary>
    DmaBufMapVec = 1 << 6,

    /// <summary>Both kinds that go through a map.</summary>
    AnyDmaBuf = DmaBufMap | DmaBufMapVec,
}
