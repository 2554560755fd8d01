namespace DmaBufIo.Models.Iommu;

/// <summary>
/// What a modelled IOMMU has done so far, over all its devices, removed ones included. A snapshot: exact while no device and no
/// host thread is active.
/// </summary>
/// <param name="Maps">Mappings made.</param>
/// <param name="Unmaps">Mappings ended by an unmap; those that a removed device left behind are not among them.</param>
/// <param name="TableWalks">Walks of a page table, one per IOTLB miss.</param>
/// <param name="IotlbMisses">Pages (4 KiB or 2 MiB) of accesses that the IOTLB did not hold.</param>
/// <param name="IotlbHits">Pages of accesses that the IOTLB held.</param>
/// <param name="Invalidations">Invalidations of a range of an IOTLB: one per unmap in strict mode, none in the others.</param>
/// <param name="Flushes">Flushes of a whole IOTLB: lazy mode only.</param>
/// <param name="SyncsForDevice">Calls that made CPU writes visible to a device (N7).</param>
/// <param name="SyncsForCpu">Calls that made device writes visible to the CPU (N7).</param>
/// <param name="SyncedBytes">Bytes of both kinds of call.</param>
public sealed record IommuCounters(
    long Maps,
    long Unmaps,
    long TableWalks,
    long IotlbMisses,
    long IotlbHits,
    long Invalidations,
    long Flushes,
    long SyncsForDevice,
    long SyncsForCpu,
    long SyncedBytes);
