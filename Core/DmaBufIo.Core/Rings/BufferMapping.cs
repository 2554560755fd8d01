namespace DmaBufIo.Rings;

/// <summary>When a device's mapping of a registered buffer is made.</summary>
public enum BufferMapping
{
    /// <summary>By the first request, for all that follow, until the buffer moves: a token and its map.</summary>
    Premapped,

    /// <summary>
    /// For each piece of each request and undone when it ends, as it is for unregistered memory: page-backed bios, no token. For comparison, and for devices
    /// that cannot hold a long mapping. Everything else is the same: the checks, the rights, the results. The memory must stay where it is, so
    /// a buffer that moves is refused, and invalidation has nothing to do with it.
    /// </summary>
    /// <remarks>
    /// One bio per contiguous piece of the buffer's memory, each a transfer of its own, so each is whole blocks (I6): a request that crosses from one piece
    /// to the next at an offset that is no multiple of the file's block is <c>EINVAL</c>. Memory in one piece, such as <see cref="BufferRegistration.Memory"/>, has no such joints.
    /// </remarks>
    PerRequest,
}
