using DmaBufIo.Errors;
using DmaBufIo.Files;

namespace DmaBufIo.Rdma;

/// <summary>
/// One end of a reliable connection: a send queue and a receive queue. Sends of one pair are done in order; a message goes into exactly one receive. One thread at a time posts sends,
/// one posts receives, one polls; the rest is for any thread.
/// </summary>
public abstract class RdmaQueuePair : IDisposable
{
    /// <summary>Its number on its device, from 1; never used again.</summary>
    public abstract int Number { get; }

    /// <summary>What the peer is told, to connect to this one.</summary>
    public abstract RdmaAddress Address { get; }

    /// <summary>Its state.</summary>
    public abstract RdmaQueuePairState State { get; }

    /// <summary>
    /// In <see cref="RdmaQueuePairState.Error"/>: <c>ECONNRESET</c> when the peer is gone, has failed, or did not do its part (no receive in time, a message that a receive of this end could not take: the sender fails, and this
    /// end with it), <c>ENODEV</c> when the own device was removed, <c>ECANCELED</c> when it was disconnected or the device reset, <c>EIO</c> when an own send-side request has failed otherwise. Else <c>Ok</c>.
    /// </summary>
    public abstract Errno Reason { get; }

    /// <summary>Where send-side requests end.</summary>
    public abstract RdmaCompletionQueue SendCompletions { get; }

    /// <summary>Where receives end.</summary>
    public abstract RdmaCompletionQueue ReceiveCompletions { get; }

    /// <summary>Names the peer. Both ends do: the connection is there when the second of them has.</summary>
    /// <param name="peer">The other end's <see cref="Address"/>.</param>
    /// <exception cref="DmaBufIoException">It has a peer already (<c>EISCONN</c>), has failed (<c>ECONNRESET</c>), names itself (<c>EINVAL</c>), or no such device is on the wire (<c>ENXIO</c>).</exception>
    public abstract void Connect(RdmaAddress peer);

    /// <summary>Ends the connection: both ends go to Error, everything posted ends with <see cref="RdmaStatus.WorkRequestFlushed"/>, but the peer's first send with <see cref="RdmaStatus.RetryExceeded"/>. Waits for at most one piece of DMA. Idempotent.</summary>
    public abstract void Disconnect();

    /// <summary>Hands send-side requests to the device, in order. Does not sleep; no allocation, no lock.</summary>
    /// <param name="requests">Sends, RDMA writes and RDMA reads.</param>
    /// <param name="posted">How many were taken: those from the first on.</param>
    /// <returns><c>Ok</c>; <c>ENOMEM</c> when the queue is full: poll first; <c>ENOTCONN</c> before <see cref="Connect"/>; <c>EINVAL</c> for a receive, or a negative length; <c>ESHUTDOWN</c> once it is disposed.</returns>
    public abstract Errno PostSend(ReadOnlySpan<RdmaWorkRequest> requests, out int posted);

    /// <summary>Hands receives to the device, in order, in any state. See <see cref="PostSend(ReadOnlySpan{RdmaWorkRequest}, out int)"/>.</summary>
    /// <param name="requests">Receives.</param>
    /// <param name="posted">How many were taken.</param>
    /// <returns><c>Ok</c>, <c>ENOMEM</c>, <c>EINVAL</c>, or <c>ESHUTDOWN</c>.</returns>
    public abstract Errno PostReceive(ReadOnlySpan<RdmaWorkRequest> requests, out int posted);

    /// <summary>Hands one send-side request to the device.</summary>
    /// <param name="request">The request.</param>
    /// <returns>As the other overload.</returns>
    public Errno PostSend(in RdmaWorkRequest request) => PostSend(new ReadOnlySpan<RdmaWorkRequest>(in request), out _);

    /// <summary>Hands one receive to the device.</summary>
    /// <param name="request">The request.</param>
    /// <returns>As the other overload.</returns>
    public Errno PostReceive(in RdmaWorkRequest request) => PostReceive(new ReadOnlySpan<RdmaWorkRequest>(in request), out _);

    /// <summary>
    /// Opens the pair as a file: a write sends one message from a registered buffer, a read receives one (short when the message is shorter), a flush waits for the acknowledgement of all sends before it. The file offset is
    /// always 0. One ring at a time uses the file; from now on nothing else posts to the pair or polls its queue.
    /// </summary>
    /// <param name="flags">How. Registered buffers need <see cref="OpenFlags.Direct"/> (B5).</param>
    /// <returns>The file, with one reference that the caller drops by <see cref="IoFile.Put"/>. It does not own the pair.</returns>
    /// <remarks>
    /// Requests answer <c>ENOTCONN</c> before <see cref="Connect"/>, <c>ECONNRESET</c> when the peer is gone, <c>EMSGSIZE</c> when the message is longer than the read, <c>ETIMEDOUT</c> when the peer reads nothing in time
    /// (<see cref="RdmaQueuePairOptions.RnrTimeout"/>), <c>EINVAL</c> for another file offset. A read waits for a message for ever: end it by <see cref="Disconnect"/> before the ring is disposed.
    /// </remarks>
    /// <exception cref="DmaBufIoException">It is open already (<c>EBUSY</c>), or its completion queues are not its own (<c>EINVAL</c>).</exception>
    public abstract IoFile OpenFile(OpenFlags flags = OpenFlags.Direct);

    /// <summary>Disconnects and ends the pair. Nobody posts meanwhile. Completions that were not reaped stay in their queue. Idempotent.</summary>
    public abstract void Dispose();
}
