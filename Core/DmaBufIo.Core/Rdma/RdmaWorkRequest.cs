namespace DmaBufIo.Rdma;

/// <summary>
/// One work request: plain data, copied when it is posted. Every request has a completion. Offsets count from the start of their region, as in zero-based regions of verbs.
/// </summary>
/// <param name="Id">Comes back with the completion.</param>
/// <param name="Opcode">What it does.</param>
/// <param name="LocalKey">The key of the local memory (<see cref="RdmaMemoryRegion.LocalKey"/>).</param>
/// <param name="LocalOffset">First byte in the local region.</param>
/// <param name="Length">Bytes; of a receive: the longest message it takes. 0 is allowed.</param>
/// <param name="RemoteKey">RDMA only: the key of the peer's region (<see cref="RdmaMemoryRegion.RemoteKey"/>).</param>
/// <param name="RemoteOffset">RDMA only: first byte in the peer's region.</param>
public readonly record struct RdmaWorkRequest(
    ulong Id, RdmaOpcode Opcode, uint LocalKey, long LocalOffset, long Length, uint RemoteKey = 0, long RemoteOffset = 0)
{
    /// <summary>A send of a part of a region.</summary>
    /// <param name="id">Comes back with the completion.</param>
    /// <param name="region">The region.</param>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes of the message.</param>
    public static RdmaWorkRequest Send(ulong id, RdmaMemoryRegion region, long offset, long length) =>
        new(id, RdmaOpcode.Send, region.LocalKey, offset, length);

    /// <summary>A receive into a part of a region, which needs <see cref="RdmaAccess.LocalWrite"/>.</summary>
    /// <param name="id">Comes back with the completion.</param>
    /// <param name="region">The region.</param>
    /// <param name="offset">First byte.</param>
    /// <param name="length">The longest message it takes.</param>
    public static RdmaWorkRequest Receive(ulong id, RdmaMemoryRegion region, long offset, long length) =>
        new(id, RdmaOpcode.Receive, region.LocalKey, offset, length);
}
