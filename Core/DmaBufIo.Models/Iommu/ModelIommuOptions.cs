using System.Numerics;
using DmaBufIo.Errors;

namespace DmaBufIo.Models.Iommu;

/// <summary>The properties of a modelled IOMMU; the same for all devices behind it.</summary>
public sealed record ModelIommuOptions
{
    /// <summary>How it translates and invalidates. Default: strict.</summary>
    public IommuMode Mode { get; init; }

    /// <summary>
    /// Entries of each device's IOTLB, 4-way set-associative: a power of two of at least 4. Default: 64, the order of a real
    /// device TLB.
    /// </summary>
    public int IotlbEntries { get; init; } = 64;

    /// <summary>
    /// True: a thread per device stands for the IOMMU, executes queued invalidations and acknowledges them; it starts with the first
    /// and ends with the device. False: whoever waits for an acknowledgement executes the queue itself, on its own thread; also
    /// so under a controlled scheduler. Default: true.
    /// </summary>
    /// <remarks>
    /// With the thread an unmap in strict mode pays a real hand-over to another core and back, as with hardware; without it only
    /// the work itself. In both cases a device that makes an access meanwhile works the queue off first.
    /// </remarks>
    public bool InvalidationThread { get; init; } = true;

    /// <summary>
    /// Lazy mode: a device for which nothing was mapped or unmapped for this long flushes what waits, at the latest after twice the
    /// time; needs <see cref="InvalidationThread"/>. Null (the default): only the threshold, a full address space,
    /// <see cref="ModelIommu.Flush"/> and the removal of the device flush, so that counts do not depend on time. Linux: 10 ms.
    /// </summary>
    public TimeSpan? LazyIdleFlush { get; init; }

    /// <summary>
    /// Lazy mode: unmapped ranges that may wait on a device's flush queue; one more triggers the flush. At least 0. Default:
    /// 256, as in Linux.
    /// </summary>
    public int LazyFlushThreshold { get; init; } = 256;

    /// <summary>Width of device addresses in bits, 22 to 48: a device's DMA mask. Default: 48, what a 4-level table spans.</summary>
    public int AddressBits { get; init; } = 48;

    /// <summary>
    /// Ranges that must be freed after a range before its addresses are handed out again; given up when the address space
    /// is exhausted otherwise. At least 0. Default: 1024.
    /// </summary>
    /// <remarks>
    /// An address that is reused at once hides a stale access: it reaches the next mapping and looks like one of its own.
    /// </remarks>
    public int ReuseDelay { get; init; } = 1024;

    /// <summary>
    /// Ended mappings that each device's shadow record remembers, so that a stale access can be named. At least 1. Default:
    /// 65,536.
    /// </summary>
    public int HistoryLength { get; init; } = 65536;

    /// <summary>
    /// True: address spaces say that CPU and device caches need the sync calls (N7). The model moves the bytes all the same and
    /// counts the calls.
    /// </summary>
    public bool NonCoherent { get; init; }

    internal void Validate()
    {
        Check(Enum.IsDefined(Mode), nameof(Mode), "is none of the modes");
        Check(
            IotlbEntries >= Iotlb.Ways && BitOperations.IsPow2(IotlbEntries),
            nameof(IotlbEntries),
            "is not a power of two of at least 4");
        Check(LazyFlushThreshold >= 0, nameof(LazyFlushThreshold), "is negative");
        Check(LazyIdleFlush is null || LazyIdleFlush > TimeSpan.Zero, nameof(LazyIdleFlush), "is not a time");
        Check(AddressBits is >= 22 and <= 48, nameof(AddressBits), "is not between 22 and 48");
        Check(ReuseDelay >= 0, nameof(ReuseDelay), "is negative");
        Check(HistoryLength >= 1, nameof(HistoryLength), "is less than 1");
    }

    private static void Check(bool valid, string option, string problem)
    {
        if (!valid)
            throw new DmaBufIoException(
                Errno.EINVAL, "Iommu", option, $"the option {problem}", "See the documentation of ModelIommuOptions");
    }
}
