namespace DmaBufIo.Rdma;

/// <summary>What a memory region may be used for (verbs: <c>ibv_access_flags</c>). Reading it on the device's own behalf, a send, is always allowed.</summary>
[Flags]
public enum RdmaAccess
{
    /// <summary>The own device reads.</summary>
    None = 0,

    /// <summary>The own device writes: receives, and answers of RDMA reads.</summary>
    LocalWrite = 1,

    /// <summary>The peer writes by RDMA. Needs <see cref="LocalWrite"/>.</summary>
    RemoteWrite = 2,

    /// <summary>The peer reads by RDMA.</summary>
    RemoteRead = 4,
}
