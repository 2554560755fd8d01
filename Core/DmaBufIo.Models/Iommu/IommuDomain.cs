using DmaBufIo.Dma;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// What the two ends of one device's path to memory share: translation state, shadow record and the gate that guards them.
/// </summary>
/// <remarks>
/// One lock per device covers tables, IOTLB and shadow record, and the device holds it while it moves a piece. That is how an
/// unmap waits for DMA under way: it cannot take the gate before the piece is done, and once it has it no access begins. Hosts
/// mapping for different devices do not contend. An unmap may have to wait for a slow piece (a read of a file into memory).
/// </remarks>
internal abstract class IommuDomain
{
    // A run fits a span and stays page aligned; only buffers of more than 1 GiB meet the limit.
    protected const long MaxRun = 1 << 30;

    private readonly List<ModelDmaWindow> _windows = [];

    protected IommuDomain(ModelIommu owner, string deviceName, PhysicalMemory memory)
    {
        Owner = owner;
        ModelIommuOptions options = owner.Options;
        DeviceName = deviceName;
        Options = options;
        Physical = memory;
        Shadow = new ShadowRecord(options.HistoryLength);
        AddressLimit = 1UL << options.AddressBits;
    }

    /// <summary>Taken before anything below is touched; nothing but the access log's lock is taken under it.</summary>
    public DomainGate Gate { get; } = new();

    public ModelIommu Owner { get; }

    public string DeviceName { get; }

    public ModelIommuOptions Options { get; }

    public DomainCounters Counters { get; } = new();

    public ShadowRecord Shadow { get; }

    /// <summary>True once the device was removed.</summary>
    public bool IsRemoved { get; set; }

    protected PhysicalMemory Physical { get; }

    protected ulong AddressLimit { get; }

    /// <summary>Chooses device addresses for memory and makes them translate. Gate held.</summary>
    /// <exception cref="Errors.DmaBufIoException">No addresses are left (<c>ENOMEM</c>).</exception>
    public abstract ulong Establish(in MemoryRange memory, DmaDirection direction);

    /// <summary>Ends the translation of a mapping that the shadow record ended just now. Gate held.</summary>
    public abstract void Revoke(MappingRecord record);

    /// <summary>Makes the IOTLB forget every ended mapping and their addresses reusable. Gate held.</summary>
    public abstract void Flush();

    /// <summary>Releases tables and IOTLB when the device is removed. Gate held.</summary>
    public abstract void Clear();

    /// <summary>Finds the longest contiguous run of memory from an address on. Gate held.</summary>
    /// <param name="address">Device address.</param>
    /// <param name="length">Bytes wanted, at least 1.</param>
    /// <param name="access">Exactly one direction.</param>
    /// <param name="translation">The run, or the fault.</param>
    public void Translate(ulong address, long length, DmaDirection access, out Translation translation)
    {
        if (IsRemoved)
            translation = Translation.Refused(AccessProblem.DeviceRemoved, Shadow.FindEnded(address));
        else if (address >= AddressLimit)
            translation = Translation.Refused(AccessProblem.BeyondAddressWidth, null);
        else
            TranslateWithin(address, Math.Min(length, MaxRun), access, out translation);
    }

    /// <summary>A window was opened; it ends with its mapping. Gate held.</summary>
    public void AddWindow(ModelDmaWindow window) => _windows.Add(window);

    /// <summary>A device closes a window.</summary>
    public void CloseWindow(ModelDmaWindow window)
    {
        using (Gate.EnterAsDevice())
            _windows.Remove(window);
    }

    /// <summary>Ends the windows to a mapping, in every mode, and waits until the device is outside of them. Gate held.</summary>
    /// <param name="record">The mapping, which has ended; null for all.</param>
    public void EndWindows(MappingRecord? record)
    {
        if (_windows.Count == 0)
            return;
        List<ModelDmaWindow> ended = _windows.FindAll(w => record is null || w.IsOf(record));
        if (ended.Count == 0)
            return;
        foreach (ModelDmaWindow window in ended)
            window.Revoke();
        Interlocked.MemoryBarrierProcessWide();
        foreach (ModelDmaWindow window in ended)
            window.WaitOutside();
        _windows.RemoveAll(ended.Contains);
    }

    protected abstract void TranslateWithin(ulong address, long length, DmaDirection access, out Translation translation);
}
