using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.NvmePci.Tokens;

/// <summary>The fault: after an invalidation it answers a new map with the old addresses, which it never unmaps.</summary>
internal sealed class NvmeTokenDriver(DmaBuf buffer, DmaDirection direction, DmaDevice device, int pageShift) : TokenDriver(buffer, direction)
{
    private DmaAttachment? _attachment;
    private SgTable? _first;

    public override DmaMap Map(in HeldReservation held)
    {
        _first ??= _attachment!.Map(Direction, held);
        return NvmeDmaMap.Create(_first, device, pageShift);
    }

    public override void Unmap(DmaMap map, in HeldReservation held)
    {
    }

    public override void Release()
    {
    }

    protected override void Setup() => _attachment = Attach(device);
}
