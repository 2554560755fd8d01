using DmaBufIo.Devices;
using DmaBufIo.DmaBufs;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rdma;

/// <summary>A network card that sends from and receives into registered buffers. All members may be called from any thread; those that make things may sleep.</summary>
public abstract class RdmaDevice : IResettable, IDisposable
{
    /// <summary>Its name on the wire, for example "left".</summary>
    public abstract string Name { get; }

    /// <summary>One line for people.</summary>
    public abstract string Description { get; }

    /// <summary>The identity that attaches to buffers.</summary>
    public abstract DmaDevice Device { get; }

    /// <summary>True once the device is gone.</summary>
    public bool IsRemoved => Device.IsRemoved;

    /// <summary>Registers a buffer (verbs: <c>ibv_reg_dmabuf_mr</c>). It is mapped when it is first used.</summary>
    /// <param name="buffer">The buffer; the region takes a reference.</param>
    /// <param name="access">What it may be used for.</param>
    /// <param name="options">How its token behaves; null for the defaults.</param>
    /// <returns>The region; end it by <see cref="RdmaMemoryRegion.Deregister"/>.</returns>
    /// <exception cref="Errors.DmaBufIoException">Remote write without local write (<c>EINVAL</c>), the device is gone (<c>ENODEV</c>), or the exporter refuses.</exception>
    public abstract RdmaMemoryRegion RegisterMemory(DmaBuf buffer, RdmaAccess access, TokenOptions? options = null);

    /// <summary>Makes a completion queue.</summary>
    /// <param name="entries">How many completions, 1 to 1,048,576: the depths of all queue pairs that will use it.</param>
    /// <exception cref="Errors.DmaBufIoException">Out of range (<c>EINVAL</c>), or the device is gone (<c>ENODEV</c>).</exception>
    public abstract RdmaCompletionQueue CreateCompletionQueue(int entries);

    /// <summary>Makes a queue pair.</summary>
    /// <param name="options">How; null for the defaults.</param>
    /// <returns>The pair, in <see cref="RdmaQueuePairState.Init"/>; the caller disposes it.</returns>
    /// <exception cref="Errors.DmaBufIoException">An option is wrong, or a completion queue is another device's (<c>EINVAL</c>); a completion queue has no room for the depths (<c>ENOMEM</c>); the device is gone (<c>ENODEV</c>).</exception>
    public abstract RdmaQueuePair CreateQueuePair(RdmaQueuePairOptions? options = null);

    /// <summary>
    /// Resets the device under load (T11, <see cref="IResettable.Reset"/>): all queue pairs go to Error, their requests end, maps are killed and not waited for. Regions stay; the next request makes new maps.
    /// </summary>
    public abstract void Reset();

    /// <summary>Removes the device (T11): requests end, peers are told, maps are gone when it returns. Regions are still to be deregistered. Not while holding a reservation lock. Idempotent.</summary>
    public abstract void Dispose();
}
