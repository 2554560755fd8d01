using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Dma;

/// <summary>
/// The addresses under which one device sees memory: a modelled IOMMU domain, a VFIO container, a vfio-user connection.
/// A device reaches memory only through the ranges mapped here.
/// </summary>
/// <remarks>
/// Map and unmap may be called from any thread. For premapped buffers, queues and lists they are called where a thread may sleep. For page-backed bios
/// (mapping per request) they are part of the request, on its way to the device and on its way back, where a thread may not sleep
/// (<see cref="Sync.NoSleepContext"/>): there they may take a short lock, enter the kernel, or wait for the IOMMU to acknowledge an invalidation, all of which end by
/// themselves. They must not wait for a reservation lock, a fence, another request or anything else that needs the calling context to go on (T15).
/// A space that can keep to this only by refusing refuses with <c>EOPNOTSUPP</c>. The alternative, handing each unmapping to a worker, would let a request
/// complete while the device can still reach its memory, and would make the comparison with premapped buffers one of thread switches.
/// </remarks>
public abstract class DmaAddressSpace
{
    /// <summary>The device or domain this space belongs to, for messages.</summary>
    public abstract string Name { get; }

    /// <summary>The smallest unit that can be mapped, in bytes; addresses, offsets and lengths are multiples of it.</summary>
    public abstract int Granularity { get; }

    /// <summary>True when CPU and device see each other's writes without help, so that the sync calls may be skipped (N7).</summary>
    public virtual bool IsCoherent => true;

    /// <summary>Makes a range of memory visible to the device.</summary>
    /// <param name="memory">The memory; offset and length are multiples of <see cref="Granularity"/>. It must stay allocated until the range is unmapped.</param>
    /// <param name="direction">The accesses the device is allowed.</param>
    /// <param name="purpose">What it is for, for fault reports.</param>
    /// <param name="generation">The generation of the map it is part of; 0 for memory that never moves.</param>
    /// <returns>The mapping; contiguous in device addresses.</returns>
    /// <exception cref="DmaBufIoException">Unaligned (<c>EINVAL</c>), no address space left (<c>ENOMEM</c>), or memory of a kind that this space cannot map (<c>EOPNOTSUPP</c>), with the reason.</exception>
    public abstract DeviceRange Map(in MemoryRange memory, DmaDirection direction, string purpose, long generation = 0);

    /// <summary>
    /// Ends a mapping. When it has returned, strict spaces let no access through any more and none is under way;
    /// lazy ones may still serve the old addresses until they flush, and must never hand them out again before that.
    /// </summary>
    /// <param name="range">A mapping of this space that was not unmapped yet.</param>
    /// <exception cref="DmaBufIoException">Not a live mapping of this space (<c>EINVAL</c>).</exception>
    public abstract void Unmap(DeviceRange range);

    /// <summary>Makes the CPU's writes to a part of a mapping visible to the device. Does nothing on a coherent space.</summary>
    /// <param name="range">The mapping.</param>
    /// <param name="offset">First byte within the mapping.</param>
    /// <param name="length">Bytes.</param>
    public virtual void SyncForDevice(DeviceRange range, long offset, long length)
    {
    }

    /// <summary>Makes the device's writes to a part of a mapping visible to the CPU. Does nothing on a coherent space.</summary>
    /// <param name="range">The mapping.</param>
    /// <param name="offset">First byte within the mapping.</param>
    /// <param name="length">Bytes.</param>
    public virtual void SyncForCpu(DeviceRange range, long offset, long length)
    {
    }
}
