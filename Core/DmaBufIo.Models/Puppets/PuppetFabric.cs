using DmaBufIo.Dma;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Models.Puppets;

/// <summary>
/// A modelled IOMMU with strings between it and the devices: a test sees every mapping, every unmapping and every DMA before it happens, and can fail it, hold it up, or put anything
/// in between. Works for any driver that takes its address space from <see cref="IDmaFabric"/>.
/// </summary>
/// <remarks>The strings are called on the thread that maps, unmaps or moves data, with whatever locks that thread holds. Set them before they are needed.</remarks>
/// <param name="iommu">What stands behind it; stays the caller's.</param>
public sealed class PuppetFabric(ModelIommu iommu) : IDmaFabric
{
    private readonly Lock _lock = new();
    private readonly List<PuppetSpace> _spaces = [];

    /// <summary>The IOMMU behind it.</summary>
    public ModelIommu Iommu { get; } = iommu;

    /// <summary>Called before a range is mapped; what it throws, the mapping fails with.</summary>
    public Action<PuppetMapping>? OnMap { get; set; }

    /// <summary>Called before a range is unmapped.</summary>
    public Action<PuppetMapping>? OnUnmap { get; set; }

    /// <summary>Called before a part of a mapping is synchronised (N7); false as the second argument: for the CPU.</summary>
    public Action<PuppetMapping, bool>? OnSync { get; set; }

    /// <summary>Called on the device's thread before a DMA moves anything; an answer other than <c>Ok</c> is what the device gets, and nothing moves.</summary>
    public Func<PuppetDma, Errors.Errno>? OnDma { get; set; }

    /// <summary>Called on the device's thread after a DMA.</summary>
    public Action<PuppetDma>? AfterDma { get; set; }

    /// <summary>The mappings that are live now, of all devices.</summary>
    public IReadOnlyList<PuppetMapping> Mappings
    {
        get
        {
            PuppetSpace[] spaces;
            lock (_lock)
                spaces = [.. _spaces];
            return [.. spaces.SelectMany(static s => s.Mappings)];
        }
    }

    /// <inheritdoc/>
    public (DmaAddressSpace Space, DmaPort Port) AddDevice(string deviceName)
    {
        (DmaAddressSpace space, DmaPort port) = Iommu.AddDevice(deviceName);
        var puppet = new PuppetSpace(this, space);
        lock (_lock)
            _spaces.Add(puppet);
        return (puppet, new PuppetPort(this, puppet, port));
    }

    /// <inheritdoc/>
    public void RemoveDevice(DmaAddressSpace space)
    {
        var puppet = (PuppetSpace)space;
        lock (_lock)
            _spaces.Remove(puppet);
        Iommu.RemoveDevice(puppet.Inner);
    }
}

/// <summary>A mapping that is being made, ended or synchronised.</summary>
/// <param name="Device">The device's name.</param>
/// <param name="Purpose">What it is for: a buffer's or a queue's name.</param>
/// <param name="Address">First device address; 0 before it is mapped.</param>
/// <param name="Memory">The memory; of a synchronised part.</param>
/// <param name="Direction">The accesses the device is allowed.</param>
public readonly record struct PuppetMapping(string Device, string Purpose, ulong Address, Memory.MemoryRange Memory, DmaDirection Direction);

/// <summary>A DMA of a device.</summary>
/// <param name="Device">The device's name.</param>
/// <param name="Purpose">What the mapping behind the first address is for; null when none is live.</param>
/// <param name="Address">First device address.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Direction"><see cref="DmaDirection.ToDevice"/> when the device reads memory.</param>
public readonly record struct PuppetDma(string Device, string? Purpose, ulong Address, long Length, DmaDirection Direction);
