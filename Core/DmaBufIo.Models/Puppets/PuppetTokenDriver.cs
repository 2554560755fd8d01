using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Tokens;

namespace DmaBufIo.Models.Puppets;

/// <summary>The puppet's part of a token: does what its device's strings say.</summary>
internal sealed class PuppetTokenDriver(PuppetBlockDevice device, DmaBuf buffer, DmaDirection direction) : TokenDriver(buffer, direction)
{
    private DmaAttachment? _attachment;
    private bool _counted;

    protected override void Setup()
    {
        _attachment = Attach(device.Device);
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
        var map = new PuppetMap(_attachment!.Map(Direction, held));
        device.CountMap(1);
        return map;
    }

    public override void Unmap(DmaMap map, in HeldReservation held)
    {
        device.InUnmap?.Invoke();
        _attachment!.Unmap(((PuppetMap)map).Table, held);
        device.CountMap(-1);
    }

    public override void Release()
    {
        if (_counted)
            device.CountToken(-1);
    }
}

/// <summary>The puppet's map: the exporter's table as it is.</summary>
internal sealed class PuppetMap(SgTable table) : DmaMap(table.Ranges.Sum(static r => r.Length), table.Ranges.Min(static r => r.Length))
{
    internal SgTable Table { get; } = table;
}
