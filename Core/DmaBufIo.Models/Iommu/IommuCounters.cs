namespace DmaBufIo.Models.Iommu;

/// <summary>
/// What a modelled IOMMU has done so far, for one device or over all of them, removed ones included. A snapshot: exact while no
/// device and no host thread is active.
/// </summary>
/// <param name="Maps">Mappings made.</param>
/// <param name="Unmaps">Mappings ended by an unmap; those that a removed device left behind are not among them.</param>
/// <param name="TableWalks">Walks of a page table, one per IOTLB miss.</param>
/// <param name="IotlbMisses">Pages (4 KiB, 2 MiB or 1 GiB) of accesses that the IOTLB did not hold.</param>
/// <param name="IotlbHits">Pages of accesses that the IOTLB held.</param>
/// <param name="Invalidations">Invalidations of a range that were queued: one per unmap in strict mode, none in the others.</param>
/// <param name="AcknowledgedInvalidations">Invalidations of a range that the device's side has executed and acknowledged.</param>
/// <param name="InvalidationWaits">
/// Acknowledgements, that is round trips from host to device: one per unmap or batch of unmaps in strict mode, one per flush.
/// </param>
/// <param name="Flushes">Invalidations of a whole IOTLB: lazy mode only.</param>
/// <param name="SyncsForDevice">Calls that made CPU writes visible to a device (N7).</param>
/// <param name="SyncsForCpu">Calls that made device writes visible to the CPU (N7).</param>
/// <param name="SyncedBytes">Bytes of both kinds of call.</param>
/// <param name="BytesFromMemory">Bytes that devices read from memory: data, queues and lists, but for what they see through windows.</param>
/// <param name="BytesToMemory">Bytes that devices wrote to memory, in the same sense.</param>
public sealed record IommuCounters(
    long Maps,
    long Unmaps,
    long TableWalks,
    long IotlbMisses,
    long IotlbHits,
    long Invalidations,
    long AcknowledgedInvalidations,
    long InvalidationWaits,
    long Flushes,
    long SyncsForDevice,
    long SyncsForCpu,
    long SyncedBytes,
    long BytesFromMemory = 0,
    long BytesToMemory = 0)
{
    /// <summary>What was done since an earlier snapshot of the same device or IOMMU.</summary>
    /// <param name="earlier">The earlier snapshot.</param>
    /// <returns>The differences, field by field.</returns>
    public IommuCounters Since(IommuCounters earlier)
    {
        ArgumentNullException.ThrowIfNull(earlier);
        return new IommuCounters(
            Maps - earlier.Maps,
            Unmaps - earlier.Unmaps,
            TableWalks - earlier.TableWalks,
            IotlbMisses - earlier.IotlbMisses,
            IotlbHits - earlier.IotlbHits,
            Invalidations - earlier.Invalidations,
            AcknowledgedInvalidations - earlier.AcknowledgedInvalidations,
            InvalidationWaits - earlier.InvalidationWaits,
            Flushes - earlier.Flushes,
            SyncsForDevice - earlier.SyncsForDevice,
            SyncsForCpu - earlier.SyncsForCpu,
            SyncedBytes - earlier.SyncedBytes,
            BytesFromMemory - earlier.BytesFromMemory,
            BytesToMemory - earlier.BytesToMemory);
    }
}
