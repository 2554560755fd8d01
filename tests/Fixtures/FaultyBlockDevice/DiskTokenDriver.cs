using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Fixtures.FaultyBlockDevice;

/// <summary>A page of descriptors of the device's, made when it is first wanted and kept.</summary>
internal sealed class DescriptorPool(DmaAddressSpace space) : IDisposable
{
    private readonly Lock _lock = new();
    private MemoryRegion? _page;
    private DeviceRange? _mapped;

    internal void Want()
    {
        lock (_lock)
        {
            if (_page is not null)
                return;
            var page = MemoryRegion.Allocate("descriptors", MemoryRegion.PageSize);
            try
            {
                _mapped = space.Map(new MemoryRange(page, 0, page.Length), DmaDirection.ToDevice, "descriptors");
            }
            catch
            {
                page.Dispose();
                throw;
            }

            _page = page;
        }
    }

    public void Dispose()
    {
        if (_mapped is not null)
            space.Unmap(_mapped);
        _page?.Dispose();
    }
}

/// <summary>Maps a buffer, as drivers may: some look at its pieces first, some need descriptors for it.</summary>
internal sealed class DiskTokenDriver(DmaBuf buffer, DmaDirection direction, DmaDevice device, bool looks, DescriptorPool? pool) : TokenDriver(buffer, direction)
{
    private DmaAttachment? _attachment;

    public override DmaMap Map(in HeldReservation held)
    {
        pool?.Want();
        SgTable table = _attachment!.Map(Direction, held);
        try
        {
            return RangeMap.Create(table);
        }
        catch
        {
            _attachment.Unmap(table, held);
            throw;
        }
    }

    public override void Unmap(DmaMap map, in HeldReservation held) => _attachment!.Unmap(((RangeMap)map).Table, held);

    public override void Release()
    {
    }

    protected override void Setup()
    {
        _attachment = Attach(device);
        if (!looks)
            return;

        // The lock may be taken here.
        using ReservationGuard guard = Buffer.Reservation.Lock();
        _attachment.Unmap(_attachment.Map(Direction, guard.Held), guard.Held);
    }
}
