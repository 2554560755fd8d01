using DmaBufIo.Dma;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>A window of a modelled device.</summary>
/// <remarks>
/// Protocol, the same as a request gate's:
/// <code>
///   device:  active = 1              unmap:  revoked = true   (domain's gate held)
///            read revoked                    process-wide barrier
///              true: active = 0, fail        wait until active = 0
/// </code>
/// The barrier makes the device fence once between its store and its load: either the unmap sees it inside and waits, or it sees that it is too late. A use
/// is bounded: a device inside a window waits for nothing.
/// </remarks>
internal sealed class ModelDmaWindow : DmaWindow
{
    private readonly IommuDomain _domain;
    private readonly AccessLog _log;
    private readonly MappingRecord _record;
    private readonly MemoryRegion _region;
    private readonly ulong _address;
    private readonly long _offset;
    private readonly int _length;
    private readonly DmaDirection _direction;
    private volatile bool _revoked;
    private int _active;

    internal ModelDmaWindow(IommuDomain domain, AccessLog log, in Translation run, ulong address, int length, DmaDirection direction)
    {
        _domain = domain;
        _log = log;
        _record = run.Record!;
        _region = run.Region!;
        _offset = run.Offset;
        _address = address;
        _length = length;
        _direction = direction;
    }

    public override bool TryEnter(out Span<byte> memory)
    {
        // Store, then load: the unmap's barrier stands between them.
        Volatile.Write(ref _active, 1);
        if (_revoked)
            return Refuse(out memory);
        memory = _region.Span(_offset, _length);
        return true;
    }

    public override void Leave() => Volatile.Write(ref _active, 0);

    public override void Dispose() => _domain.CloseWindow(this);

    /// <summary>True when the window lies in that mapping.</summary>
    internal bool IsOf(MappingRecord record) => ReferenceEquals(_record, record);

    /// <summary>First half of the end, before the barrier.</summary>
    internal void Revoke() => _revoked = true;

    /// <summary>Second half: waits until the device is outside.</summary>
    internal void WaitOutside()
    {
        var wait = default(SpinWait);
        while (Volatile.Read(ref _active) != 0)
            wait.SpinOnce(sleep1Threshold: -1);
    }

    private bool Refuse(out Span<byte> memory)
    {
        Leave();
        memory = default;
        _log.Record(_domain.DeviceName, AccessProblem.NotMapped, _address, _length, _direction, _record, _region.Name);
        return false;
    }
}
