using DmaBufIo.Dma;
using DmaBufIo.Errors;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// An IOMMU without hardware: each device behind it has its own page table, IOTLB, invalidation queue and device addresses. Moves
/// the bytes as hardware in the chosen mode would, and records every access that no live mapping stands for, in every mode (F7).
/// </summary>
/// <remarks>
/// All members may be called from any thread. Mapping and unmapping wait for a DMA of the same device that is moving a piece;
/// devices do not wait for each other. An unmap in strict mode, and one in lazy mode that flushes, waits until the device's side has
/// acknowledged its invalidation; it may be called where a thread may not sleep, and polls there. A device that was not removed keeps
/// a background thread from its first invalidation on: dispose the IOMMU. A run is clean when
/// <see cref="Faults"/> and <see cref="StaleAccesses"/> are 0 at its end.
/// </remarks>
public sealed class ModelIommu : IDmaFabric, IDisposable
{
    // Enough to find the driver that leaks; the count goes on.
    private const int KeptLeaks = 1000;

    private readonly Lock _gate = new();
    private readonly Dictionary<string, ModelAddressSpace> _spaces = new(StringComparer.Ordinal);
    private readonly Dictionary<string, DomainCounters> _removed = new(StringComparer.Ordinal);
    private readonly List<string> _leaks = [];
    private readonly PhysicalMemory _memory;
    private readonly AccessLog _log;
    private long _leakCount;
    private bool _disposed;

    /// <summary>Creates an IOMMU without devices.</summary>
    /// <param name="options">Its properties; null for the defaults (strict).</param>
    /// <exception cref="DmaBufIoException">An option is out of its range (<c>EINVAL</c>).</exception>
    public ModelIommu(ModelIommuOptions? options = null)
    {
        Options = options ?? new ModelIommuOptions();
        Options.Validate();

        // Without translation physical addresses are what the device drives; with it they only have to fit an entry of the table.
        _memory = new PhysicalMemory(Options.Mode == IommuMode.Passthrough ? Options.AddressBits : 52);
        _log = new AccessLog(Options.Mode);
    }

    /// <summary>The properties it was created with.</summary>
    public ModelIommuOptions Options { get; }

    /// <summary>The first 1000 bad accesses in the order in which they were recorded: a snapshot.</summary>
    public IReadOnlyList<IommuAccessReport> Reports => _log.ToSnapshot();

    /// <summary>Accesses refused so far, over all devices; those beyond the kept reports included.</summary>
    public long Faults => _log.Faults;

    /// <summary>Stale accesses so far, served or refused, over all devices; those beyond the kept reports included.</summary>
    public long StaleAccesses => _log.StaleAccesses;

    /// <summary>What was done so far: a snapshot.</summary>
    public IommuCounters Counters
    {
        get
        {
            lock (_gate)
            {
                var sum = new DomainCounters();
                foreach (DomainCounters removed in _removed.Values)
                    sum.Add(removed);
                foreach (ModelAddressSpace space in _spaces.Values)
                    sum.Add(space.Domain.Counters);
                return sum.ToSnapshot();
            }
        }
    }

    /// <summary>What was done for the devices of one name so far, removed ones included: a snapshot.</summary>
    /// <param name="deviceName">The name given to <see cref="AddDevice"/>.</param>
    /// <returns>The counters; those of all devices add up to <see cref="Counters"/>.</returns>
    /// <exception cref="DmaBufIoException">There never was a device of that name (<c>ENODEV</c>).</exception>
    public IommuCounters CountersOf(string deviceName)
    {
        ArgumentNullException.ThrowIfNull(deviceName);
        lock (_gate)
        {
            bool wasThere = _removed.TryGetValue(deviceName, out DomainCounters? removed);
            bool isThere = _spaces.TryGetValue(deviceName, out ModelAddressSpace? space);
            if (!wasThere && !isThere)
                throw new DmaBufIoException(
                    Errno.ENODEV,
                    "Iommu",
                    deviceName,
                    "no device of this name was ever behind the IOMMU",
                    "Ask by the name that was given to AddDevice");
            var sum = new DomainCounters();
            if (removed is not null)
                sum.Add(removed);
            if (space is not null)
                sum.Add(space.Domain.Counters);
            return sum.ToSnapshot();
        }
    }

    /// <summary>Mappings that are live now, over all devices.</summary>
    public long LiveMappings
    {
        get
        {
            long live = 0;
            foreach (ModelAddressSpace space in Spaces())
            {
                using (space.Domain.Gate.EnterAsHost())
                    live += space.Domain.Shadow.Live.Count;
            }

            return live;
        }
    }

    /// <summary>Mappings that were still live when their device was removed.</summary>
    public long LeakedMappings
    {
        get
        {
            lock (_gate)
                return _leakCount;
        }
    }

    /// <summary>
    /// The first 1000 leaked mappings as text, with device, purpose, generation, region and device addresses: a snapshot.
    /// </summary>
    public IReadOnlyList<string> LeakedMappingDescriptions
    {
        get
        {
            lock (_gate)
                return [.. _leaks];
        }
    }

    /// <inheritdoc/>
    /// <exception cref="DmaBufIoException">A device of that name is there already (<c>EEXIST</c>).</exception>
    /// <exception cref="ObjectDisposedException">The IOMMU was disposed.</exception>
    public (DmaAddressSpace Space, DmaPort Port) AddDevice(string deviceName)
    {
        ArgumentException.ThrowIfNullOrEmpty(deviceName);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            IommuDomain domain = Options.Mode == IommuMode.Passthrough
                ? new PassthroughDomain(this, deviceName, _memory)
                : new TranslatingDomain(this, deviceName, _memory);
            var space = new ModelAddressSpace(domain);
            if (!_spaces.TryAdd(deviceName, space))
                throw new DmaBufIoException(
                    Errno.EEXIST,
                    "Iommu",
                    deviceName,
                    "a device of this name is behind the IOMMU already",
                    "Give each device its own name");
            return (space, new ModelDmaPort(domain, _log));
        }
    }

    /// <inheritdoc/>
    /// <remarks>
    /// Waits for a DMA of the device that is moving a piece. Mappings that are still live are counted as leaked. Invalidations
    /// that are pending are acknowledged, for no access is let through any more: an unmap that waits for one returns. The thread
    /// of the device's invalidations has ended on return. Removing a device twice does nothing.
    /// </remarks>
    /// <exception cref="DmaBufIoException">
    /// The space was not made by this IOMMU (<c>EINVAL</c>), or the caller moves data of the device (<c>EDEADLK</c>).
    /// </exception>
    public void RemoveDevice(DmaAddressSpace space)
    {
        if (space is not ModelAddressSpace own || own.Domain.Owner != this)
            throw new DmaBufIoException(
                Errno.EINVAL, "Iommu", space.Name, "the address space is not of this IOMMU", "Remove a device where it was added");
        IommuDomain domain = own.Domain;
        if (domain.Gate.IsHeldByCurrentThread)
            throw new DmaBufIoException(
                Errno.EDEADLK,
                "Iommu",
                space.Name,
                "the device is removed by the thread that moves its data",
                "Remove it from another context");
        List<MappingRecord> left;
        using (domain.Gate.EnterAsHost())
        {
            if (domain.IsRemoved)
                return;
            domain.IsRemoved = true;
            domain.EndWindows(null);
            left = domain.Shadow.Abandon();
            domain.Clear();
        }

        lock (_gate)
        {
            _spaces.Remove(domain.DeviceName);
            if (!_removed.TryGetValue(domain.DeviceName, out DomainCounters? removed))
                _removed.Add(domain.DeviceName, removed = new DomainCounters());
            removed.Add(domain.Counters);
            _leakCount += left.Count;
            foreach (MappingRecord record in left.Take(KeptLeaks - _leaks.Count))
                _leaks.Add($"{domain.DeviceName}: {record}");
        }

        domain.End();
    }

    /// <summary>
    /// Lazy mode: flushes the IOTLBs of all devices that have unmapped ranges waiting; from then on no old address is served.
    /// Does nothing in the other modes.
    /// </summary>
    public void Flush()
    {
        foreach (ModelAddressSpace space in Spaces())
        {
            IommuDomain domain = space.Domain;
            long wait;
            using (domain.Gate.EnterAsHost())
                wait = domain.QueueFlush();
            if (wait == 0)
                continue;
            domain.Await(wait);
            using (domain.Gate.EnterAsHost())
                domain.Reap();
        }
    }

    /// <summary>Removes all devices. Reports, counters and leaks stay readable. Idempotent.</summary>
    public void Dispose()
    {
        lock (_gate)
            _disposed = true;
        foreach (ModelAddressSpace space in Spaces())
            RemoveDevice(space);
    }

    private ModelAddressSpace[] Spaces()
    {
        lock (_gate)
            return [.. _spaces.Values];
    }
}
