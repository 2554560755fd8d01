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
    private readonly Lock _lock = new();
    private readonly List<IDeviceMaps> _holders = [];
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

    /// <summary>Where it hangs in the PCI tree; null when that is not known. Exporters with memory of their own ask for it.</summary>
    public DeviceLocation? Location { get; init; }

    /// <summary>True once the device is gone; it never comes back under this identity (T11).</summary>
    public bool IsRemoved => _removed;

    /// <summary>Someone has maps for this device from now on.</summary>
    /// <param name="holder">Told when the device is reset or removed.</param>
    public void AddHolder(IDeviceMaps holder)
    {
        lock (_lock)
            _holders.Add(holder);
    }

    /// <summary>Ends one <see cref="AddHolder"/>.</summary>
    /// <param name="holder">The holder.</param>
    public void RemoveHolder(IDeviceMaps holder)
    {
        lock (_lock)
            _holders.Remove(holder);
    }

    /// <summary>
    /// Reset: kills every live map for this device and does not wait; the next request makes a new one (T11). Call it after the requests in
    /// flight were cancelled. Not in completion context.
    /// </summary>
    public void KillMaps()
    {
        foreach (IDeviceMaps holder in Holders())
            holder.KillMaps();
    }

    /// <summary>
    /// Removal: marks the device gone, kills every map for it and waits until all are unmapped (T11). Call it after the requests in flight were
    /// cancelled: a request that nobody ends would be waited for for ever. Not while holding a reservation lock.
    /// </summary>
    public void Remove()
    {
        MarkRemoved();
        IDeviceMaps[] holders = Holders();
        foreach (IDeviceMaps holder in holders)
            holder.KillMaps();
        foreach (IDeviceMaps holder in holders)
            holder.WaitUnmapped();
    }

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

    private IDeviceMaps[] Holders()
    {
        lock (_lock)
            return [.. _holders.Distinct()];
    }
}

/// <summary>Whoever has maps for a device: a token.</summary>
public interface IDeviceMaps
{
    /// <summary>Kills the live map, if there is one, and does not wait.</summary>
    void KillMaps();

    /// <summary>Waits until no map is left, live or killed.</summary>
    void WaitUnmapped();
}
