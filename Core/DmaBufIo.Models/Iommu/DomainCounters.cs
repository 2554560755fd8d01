namespace DmaBufIo.Models.Iommu;

/// <summary>The counters of one device, or the sum over removed ones.</summary>
/// <remarks>Written under the domain's gate, so plain increments suffice; the sync counters are written without it, interlocked.</remarks>
internal sealed class DomainCounters
{
    public long Maps;
    public long Unmaps;
    public long TableWalks;
    public long IotlbMisses;
    public long IotlbHits;
    public long Invalidations;
    public long Flushes;
    public long AcknowledgedInvalidations;
    public long InvalidationWaits;
    public long BytesFromMemory;
    public long BytesToMemory;
    private long _syncsForDevice;
    private long _syncsForCpu;
    private long _syncedBytes;

    public void CountSync(bool forDevice, long bytes)
    {
        Interlocked.Increment(ref forDevice ? ref _syncsForDevice : ref _syncsForCpu);
        Interlocked.Add(ref _syncedBytes, bytes);
    }

    public void Add(DomainCounters other)
    {
        Maps += Volatile.Read(ref other.Maps);
        Unmaps += Volatile.Read(ref other.Unmaps);
        TableWalks += Volatile.Read(ref other.TableWalks);
        IotlbMisses += Volatile.Read(ref other.IotlbMisses);
        IotlbHits += Volatile.Read(ref other.IotlbHits);
        Invalidations += Volatile.Read(ref other.Invalidations);
        Flushes += Volatile.Read(ref other.Flushes);
        AcknowledgedInvalidations += Volatile.Read(ref other.AcknowledgedInvalidations);
        InvalidationWaits += Volatile.Read(ref other.InvalidationWaits);
        BytesFromMemory += Volatile.Read(ref other.BytesFromMemory);
        BytesToMemory += Volatile.Read(ref other.BytesToMemory);
        _syncsForDevice += Volatile.Read(ref other._syncsForDevice);
        _syncsForCpu += Volatile.Read(ref other._syncsForCpu);
        _syncedBytes += Volatile.Read(ref other._syncedBytes);
    }

    public IommuCounters ToSnapshot() => new(
        Maps,
        Unmaps,
        TableWalks,
        IotlbMisses,
        IotlbHits,
        Invalidations,
        AcknowledgedInvalidations,
        InvalidationWaits,
        Flushes,
        _syncsForDevice,
        _syncsForCpu,
        _syncedBytes,
        BytesFromMemory,
        BytesToMemory);
}
