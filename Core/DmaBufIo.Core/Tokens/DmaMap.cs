using DmaBufIo.DmaBufs;
using DmaBufIo.Sync;

namespace DmaBufIo.Tokens;

/// <summary>
/// One established mapping of a token, in the driver's own format: a driver subclasses it. Core counts the requests that use it; drivers never
/// take or drop references.
/// </summary>
/// <remarks>
/// A map that was made is live until it is killed, then drained when its last request has ended, then unmapped, once (T8). The object stays valid
/// memory for whoever still looks at it (T9).
/// </remarks>
public abstract class DmaMap
{
    /// <summary>Creates the part that is Core's.</summary>
    /// <param name="length">Bytes of the buffer that are mapped.</param>
    /// <param name="smallestSegment">The shortest contiguous piece as the device sees it, in bytes; bios are split by it (B3).</param>
    protected DmaMap(long length, long smallestSegment)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(smallestSegment);
        Length = length;
        SmallestSegment = smallestSegment;
    }

    /// <summary>Bytes of the buffer that are mapped.</summary>
    public long Length { get; }

    /// <summary>The shortest contiguous piece as the device sees it, in bytes.</summary>
    public long SmallestSegment { get; }

    /// <summary>The buffer's generation when the map was made; 0 for a member's map of a composite.</summary>
    public long Generation { get; private set; }

    /// <summary>The token that made it; null for a member's map of a composite.</summary>
    public DmaBufToken? Token { get; private set; }

    /// <summary>True once it was killed: a request that looks again must make a new one.</summary>
    public bool IsKilled => Gate.IsKilled;

    /// <summary>The count of requests. Core's.</summary>
    internal RequestGate Gate { get; private set; } = null!;

    /// <summary>Fenced design: the fence that stands for the requests that still use the killed map. Guarded by the token's lock.</summary>
    internal DmaFence? Fence { get; set; }

    /// <summary>True once the worker has looked for <see cref="Fence"/>: it is too late to add one, and not necessary. Guarded by the token's lock.</summary>
    internal bool FenceSettled { get; set; }

    /// <summary>Unmaps the map; its own queue node, so that the last request allocates nothing.</summary>
    internal WorkItem UnmapWork { get; private set; } = null!;

    /// <inheritdoc/>
    public override string ToString() => Token is null ? "member map" : $"map {Generation} of {Token.Name}";

    internal void Bind(DmaBufToken token, long generation, RequestGate gate, WorkItem unmapWork)
    {
        Token = token;
        Generation = generation;
        Gate = gate;
        UnmapWork = unmapWork;
    }
}
