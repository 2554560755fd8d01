namespace DmaBufIo.Dma;

/// <summary>
/// Where in-process device models get their address space from: each call makes the two ends of one device's path to memory.
/// The host provides it (a modelled IOMMU); plugins with device models take it from their service scope.
/// </summary>
public interface IDmaFabric
{
    /// <summary>Creates the address space of a new device.</summary>
    /// <param name="deviceName">The device's name, for fault reports; unique among the living.</param>
    /// <returns>The host's end (map, unmap) and the device's end (read, write). Owned by the fabric; end it with <see cref="RemoveDevice"/>.</returns>
    (DmaAddressSpace Space, DmaPort Port) AddDevice(string deviceName);

    /// <summary>Forgets a device: every later access through its port faults.</summary>
    /// <param name="space">The host's end that <see cref="AddDevice"/> returned.</param>
    void RemoveDevice(DmaAddressSpace space);
}
