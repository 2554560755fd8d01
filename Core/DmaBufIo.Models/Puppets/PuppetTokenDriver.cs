using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Tokens;

namespace DmaBufIo.Models.Puppets;

/// <summary>The puppet's part of a token: does what its device's strings say.</summary>
internal sealed class PuppetTokenDriver(PuppetBlockDevice device, DmaBuf buffer, DmaDirection direction) : RangeTokenDriver(buffer, direction, device.Device)
{
    private bool _counted;

    protected override void Setup()
    {
        base.Setup();
        device.CountToken(1);
        _counted = true;
        if (device.FailSetup is { } failure)
            throw failure();
    }

    public override DmaMap Map(in HeldReservation held)
    {
        device.InMap?.Invoke();
        if (device.FailMap is { } failure)
            throw failure();
        DmaMap map = base.Map(held);
        device.CountMap(1);
        return map;
    }

    public override void Unmap(DmaMap map, in HeldReservation held)
    {
        device.InUnmap?.Invoke();
        base.Unmap(map, held);
        device.CountMap(-1);
    }

    public override void Release()
    {
        if (_counted)
            device.CountToken(-1);
        base.Release();
    }
}
