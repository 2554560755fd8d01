using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Fixtures.FaultyImporter;

/// <summary>
/// The card's part of a registration. The card wants a list for each direction of a registration and one for each map: pages that the engine may look at, and more that can fail and must be
/// given back.
/// </summary>
internal sealed class CardTokenDriver(DmaBuf buffer, DmaDirection direction, Disk disk) : TokenDriver(buffer, direction)
{
    private readonly Fault _fault = disk.Fault;
    private readonly DmaAddressSpace _space = disk.Device.AddressSpace;
    private readonly List<DeviceRange> _lists = [];
    private DmaAttachment? _attachment;
    private DeviceRange[]? _first;
    private SgTable? _kept;
    private bool _isSetUp;
    private bool _hasMapped;

    public override DmaMap Map(in HeldReservation held)
    {
        if (_fault.Is("locks in map"))
            Buffer.Reservation.Lock().Dispose();
        if (_fault.Is("keeps the last table"))
            GiveBackKept(held);
        DeviceRange? early = _fault.Is("forgets its list when the buffer cannot be mapped") ? MapList("map list") : null;
        SgTable? table = MapsItself ? null : _attachment!.Map(MapDirection, held);
        try
        {
            DeviceRange[] ranges = table is null ? MapMemory() : [.. table.Ranges];
            if (_fault.Is("keeps its first addresses"))
                ranges = _first ??= ranges;
            var map = new CardMap(Buffer, table, ranges, early ?? MapList("map list"), _fault);
            disk.CountMap(1);
            _hasMapped = true;
            return map;
        }
        catch when (table is not null && !_fault.Is("forgets the table when its list cannot be mapped"))
        {
            _attachment!.Unmap(table, held);
            throw;
        }
    }

    public override void Unmap(DmaMap map, in HeldReservation held)
    {
        var card = (CardMap)map;
        disk.CountMap(-1);
        FreeList(card.List);
        if (card.Table is null)
        {
            if (_fault.Is("unmaps on a thread of its own"))
                UnmapElsewhere(card);
            return;
        }

        if (_fault.Is("forgets to unmap"))
            return;
        if (_fault.Is("keeps the last table"))
        {
            GiveBackKept(held);
            _kept = card.Table;
            return;
        }

        _attachment!.Unmap(card.Table, held);
        if (_fault.Is("unmaps twice"))
            _attachment.Unmap(card.Table, held);
    }

    public override void Release()
    {
        if (_kept is not null)
        {
            using ReservationGuard guard = Buffer.Reservation.Lock();
            GiveBackKept(guard.Held);
        }

        if (_fault.Is("maps in setup") && _first is not null)
            _space.Unmap(_first);
        if (_fault.Is("releases only what was set up") && !_isSetUp)
            return;
        if (_fault.Is("releases only what was used") && !_hasMapped)
            return;
        FreeLists();
        disk.Remove(this);
    }

    /// <summary>Gives the lists back, once: with the registration, or when the card goes before it.</summary>
    internal void FreeLists()
    {
        lock (_lists)
        {
            int freed = _fault.Is("forgets a list") ? _lists.Count - 1 : _lists.Count;
            foreach (DeviceRange list in _lists.Take(freed))
                FreeList(list);
            _lists.Clear();
        }
    }

    protected override void Setup()
    {
        _attachment = Attach(disk.Device);
        if (_fault.Is("keeps a reference on the buffer"))
            Buffer.Get();
        disk.Add(this);
        _lists.Add(MapList("read list"));
        _lists.Add(MapList("write list"));
        if (_fault.Is("maps in setup"))
            _first = MapMemory();
        _isSetUp = true;
    }

    private bool MapsItself => _fault.Is("maps in setup") || _fault.Is("unmaps on a thread of its own");

    private DmaDirection MapDirection =>
        _fault.Is("maps both ways") ? DmaDirection.Bidirectional
        : _fault.Is("takes directions for the other") && Direction != DmaDirection.Bidirectional ? Direction ^ DmaDirection.Bidirectional
        : Direction;

    private DeviceRange MapList(string name)
    {
        var memory = MemoryRegion.Allocate(name, 4096);
        try
        {
            return _space.Map(new MemoryRange(memory, 0, memory.Length), DmaDirection.ToDevice, $"{name} of {Buffer.Name}");
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    private void FreeList(DeviceRange list)
    {
        _space.Unmap(list);
        list.Memory.Region.Dispose();
    }

    // With a mistake only: past the attachment, so that nobody knows that the device sees the memory.
    private DeviceRange[] MapMemory() =>
        _fault.Is("maps in setup") && _first is not null ? _first : [.. Buffer.Describe().Ranges.Select(range => _space.Map(range, Direction, Buffer.Name, Buffer.Generation))];

    private void UnmapElsewhere(CardMap map)
    {
        DeviceRange[] ranges = [.. map.Ranges];
        new Thread(() => _space.Unmap(ranges)) { IsBackground = true }.Start();
    }

    private void GiveBackKept(in HeldReservation held)
    {
        if (_kept is not null)
            _attachment!.Unmap(_kept, held);
        _kept = null;
    }
}
