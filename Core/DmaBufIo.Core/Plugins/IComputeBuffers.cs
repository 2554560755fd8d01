using DmaBufIo.DmaBufs;

namespace DmaBufIo.Plugins;

/// <summary>An exporter factory whose buffers lie on a device that computes: the exporter's own jobs on its buffers.</summary>
/// <remarks>
/// Order of jobs and I/O on one buffer (T12, PROTOCOL §12). Submitting a job is the acquire step: requests in flight on the buffer end first, their maps are killed, and what the
/// device has kept of the buffer's contents is dropped. So a job sees what every request has brought whose completion was reaped before it was submitted. A request that is
/// submitted after the job finds no map, and the next one is made when the job has ended: at once for a device that only reads what the job only reads. The application orders nothing.
/// </remarks>
public interface IComputeBuffers
{
    /// <summary>Fills a range with one value. Takes reservation locks and may sleep: not in completion context, not while holding a map reference (T15).</summary>
    /// <param name="buffer">A buffer of this exporter.</param>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes; the range lies in the buffer.</param>
    /// <param name="value">The value.</param>
    /// <returns>The job, which runs or waits for its turn.</returns>
    /// <exception cref="Errors.DmaBufIoException">Not this exporter's buffer (<c>EINVAL</c>), a range that leaves it (<c>EFAULT</c>), or no room for it on the device (<c>ENOMEM</c>).</exception>
    IComputeJob Fill(DmaBuf buffer, long offset, long length, byte value);

    /// <summary>SHA-256 of a range. As <see cref="Fill"/> for the rest.</summary>
    /// <param name="buffer">A buffer of this exporter.</param>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes.</param>
    /// <returns>The job; its result is the 32 bytes of the hash.</returns>
    IComputeJob Hash(DmaBuf buffer, long offset, long length);

    /// <summary>Copies a range to another buffer, or within one where the ranges do not overlap. As <see cref="Fill"/> for the rest.</summary>
    /// <param name="source">A buffer of this exporter.</param>
    /// <param name="sourceOffset">First byte there.</param>
    /// <param name="destination">A buffer of this exporter on the same device.</param>
    /// <param name="destinationOffset">First byte there.</param>
    /// <param name="length">Bytes.</param>
    /// <returns>The job.</returns>
    IComputeJob Copy(DmaBuf source, long sourceOffset, DmaBuf destination, long destinationOffset, long length);
}

/// <summary>A job of a device on its own buffers.</summary>
public interface IComputeJob
{
    /// <summary>Signals when the job has ended.</summary>
    DmaFence Fence { get; }

    /// <summary>Why the job failed; null when it has not ended, or has not failed.</summary>
    string? Failure { get; }

    /// <summary>What the job answers; empty before it has ended, and for jobs without an answer.</summary>
    ReadOnlyMemory<byte> Result { get; }
}
