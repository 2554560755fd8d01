using DmaBufIo.DmaBufs;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rdma;

/// <summary>
/// A buffer registered with an RDMA device: a token with two keys. The buffer may move: maps are made on demand and taken by the device for one bounded piece of DMA at a time,
/// so an invalidation never waits for a message, a receive or a peer (T14, T15).
/// </summary>
public abstract class RdmaMemoryRegion
{
    /// <summary>The whole buffer is registered.</summary>
    public abstract DmaBuf Buffer { get; }

    /// <summary>What it may be used for.</summary>
    public abstract RdmaAccess Access { get; }

    /// <summary>Names the region in work requests of its own device. Its last byte is a generation, so that a stale key is found out.</summary>
    public abstract uint LocalKey { get; }

    /// <summary>Names the region in RDMA requests of peers; another number than <see cref="LocalKey"/>.</summary>
    public abstract uint RemoteKey { get; }

    /// <summary>The token: what is mapped, and whether.</summary>
    public abstract DmaBufToken Token { get; }

    /// <summary>True once it was deregistered.</summary>
    public abstract bool IsDeregistered { get; }

    /// <summary>
    /// Ends the region and waits until nothing of it is mapped and its references are dropped. Its keys are stale from then on: RDMA requests of peers that are under way fail with
    /// <see cref="RdmaStatus.RemoteAccessError"/>. May sleep; not while holding a reservation lock. Idempotent.
    /// </summary>
    /// <param name="cancellationToken">Interrupts the wait; the end itself goes on.</param>
    /// <exception cref="Errors.DmaBufIoException">
    /// Posted work requests name it (<c>EBUSY</c>): nothing has changed; reap them, or flush them by disconnecting. Cancelled (<c>EINTR</c>).
    /// </exception>
    public abstract void Deregister(CancellationToken cancellationToken = default);
}
