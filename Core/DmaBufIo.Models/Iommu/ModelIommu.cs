using DmaBufIo.Dma;
using DmaBufIo.Errors;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// An IOMMU without hardware: each device behind it has its own page table, IOTLB and device addresses. Moves the bytes as
/// hardware in the chosen mode would, and records every access that no live mapping stands for, in every mode (F7).
/// </summary>
/// <remarks>
/// All members may be called from any thread. Mapping and unmapping wait for a DMA of the same device that is moving a piece;
/// devices do not wait for each other. A run is clean when <see cref="Faults"/> and <see cref="StaleAccesses"/> are 0 at its end.
/// </remarks>
public sealed class ModelIommu : IDmaFabric, IDisposable
{
    // Enough to find the driver that leaks; the count goes on.
    private const int KeptLeaks = 1000;

    private readonly Lock _gate = new();
    private readonly Dictionary<string, ModelAddressSpace> _spaces = new(StringComparer.Ordinal);
    private readonly DomainCounters _removed = new();
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
                sum.Add(_removed);
                foreach (ModelAddressSpace space in _spaces.Values)
                    sum.Add(space.Domain.Counters);
                return sum.ToSnapshot();
            }
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
    /// Waits for a DMA of the device that is moving a piece. Mappings that are still live are counted as leaked. Removing a
    /// device twice does nothing.
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
            _removed.Add(domain.Counters);
            _leakCount += left.Count;
            foreach (MappingRecord record in left.Take(KeptLeaks - _leaks.Count))
                _leaks.Add($"{domain.DeviceName}: {record}");
        }
    }

    /// <summary>
    /// Lazy mode: flushes the IOTLBs of all devices that have unmapped ranges waiting; from then on no old address is served.
    /// Does nothing in the other modes.
    /// </summary>
    public void Flush()
    {
        foreach (ModelAddressSpace space in Spaces())
        {
            using (space.Domain.Gate.EnterAsHost())
                space.Domain.Flush();
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
