using DmaBufIo.Dma;
using DmaBufIo.Errors;

namespace DmaBufIo.Devices;

/// <summary>
/// A device that does DMA: the identity that attaches to buffers. One per PCI function; several block devices
/// (namespaces) of one controller share it.
/// </summary>
public sealed class DmaDevice
{
    private static long s_lastId;
    private volatile bool _removed;

    /// <summary>Creates the identity; called by the driver that probes the hardware.</summary>
    /// <param name="name">A name for messages, for example "nvme0".</param>
    /// <param name="space">The addresses under which the device sees memory.</param>
    public DmaDevice(string name, DmaAddressSpace space)
    {
        Name = name;
        AddressSpace = space;
        Id = Interlocked.Increment(ref s_lastId);
    }

    /// <summary>A name for messages.</summary>
    public string Name { get; }

    /// <summary>A number that no other device of this process has had.</summary>
    public long Id { get; }

    /// <summary>The addresses under which the device sees memory.</summary>
    public DmaAddressSpace AddressSpace { get; }

    /// <summary>True once the device is gone; it never comes back under this identity (T11).</summary>
    public bool IsRemoved => _removed;

    /// <summary>Marks the device gone. From now on no token maps for it: they answer <c>ENODEV</c> (T11). Idempotent.</summary>
    public void MarkRemoved() => _removed = true;

    /// <summary>Throws when the device is gone.</summary>
    /// <param name="layer">The layer that asks, for the message.</param>
    /// <exception cref="DmaBufIoException">The device is gone (<c>ENODEV</c>).</exception>
    public void ThrowIfRemoved(string layer)
    {
        if (_removed)
            throw new DmaBufIoException(Errno.ENODEV, layer, Name, "the device was removed", "Register the buffer with another device", rule: "T11");
    }

    /// <inheritdoc/>
    public override string ToString() => Name;
}
