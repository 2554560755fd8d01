using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;

namespace DmaBufIo.ContractTests;

/// <summary>
/// A device without a driver: attached to one buffer, mapped and unmapped by hand, and told of invalidations. Its tables carry no requests, so an exporter that moves has nobody to wait for.
/// </summary>
internal sealed class RawDevice : IDisposable
{
    private readonly ContractWorld _world;
    private readonly DmaBuf _buffer;
    private readonly DmaAddressSpace _space;
    private readonly DmaPort _port;
    private readonly DmaDevice _device;
    private readonly Target? _target;
    private readonly List<SgTable> _tables = [];
    private DmaAttachment? _attachment;

    internal RawDevice(ContractWorld world, DmaBuf buffer, string name, bool isDynamic, DeviceLocation? location)
    {
        _world = world;
        _buffer = buffer;
        (_space, _port) = world.Fabric.AddDevice(name);
        _device = new DmaDevice(name, _space) { Location = location };
        _target = isDynamic ? new Target(this) : null;
        Name = name;
        try
        {
            _attachment = buffer.Attach(_device, _target);
        }
        catch
        {
            world.Fabric.RemoveDevice(_space);
            throw;
        }
    }

    internal string Name { get; }

    /// <summary>Invalidations that it was told of.</summary>
    internal int Invalidations { get; private set; }

    /// <summary>Called when it is told of one, on the exporter's thread, with the reservation lock held.</summary>
    internal Action? OnInvalidate { get; set; }

    /// <summary>Where the buffer lay each time it was mapped.</summary>
    internal IReadOnlyList<PlacementCount> Placements => _attachment!.Placements;

    /// <summary>Maps the buffer, with its lock taken for that.</summary>
    internal SgTable Map(DmaDirection direction = DmaDirection.Bidirectional)
    {
        using ReservationGuard guard = _buffer.Reservation.Lock();
        return Map(direction, guard.Held);
    }

    /// <summary>Maps the buffer with its lock held.</summary>
    internal SgTable Map(DmaDirection direction, in HeldReservation held)
    {
        SgTable table = _attachment!.Map(direction, held);
        _tables.Add(table);
        return table;
    }

    /// <summary>Gives a table back.</summary>
    internal void Unmap(SgTable table)
    {
        using ReservationGuard guard = _buffer.Reservation.Lock();
        _attachment!.Unmap(table, guard.Held);
        _tables.Remove(table);
    }

    /// <summary>The device reads a part of the buffer through a table.</summary>
    internal byte[] Read(SgTable table, long offset, int length)
    {
        byte[] bytes = new byte[length];
        int done = 0;
        foreach ((ulong address, int part) in Parts(table, offset, length))
        {
            Errno status = _port.Read(address, bytes.AsSpan(done, part));
            _world.Check(status == Errno.Ok, "N1", $"device {Name} was refused a read of {part} bytes at 0x{address:x}, which the table says is the buffer's byte {offset + done}: {status}. {ExporterStage.LastReportOf(_world)}");
            done += part;
        }

        return bytes;
    }

    /// <summary>The device writes a part of the buffer through a table.</summary>
    internal void Write(SgTable table, long offset, ReadOnlySpan<byte> bytes)
    {
        int done = 0;
        foreach ((ulong address, int part) in Parts(table, offset, bytes.Length))
        {
            Errno status = _port.Write(address, bytes.Slice(done, part));
            _world.Check(status == Errno.Ok, "N1", $"device {Name} was refused a write of {part} bytes at 0x{address:x}, which the table says is the buffer's byte {offset + done}: {status}. {ExporterStage.LastReportOf(_world)}");
            done += part;
        }
    }

    /// <summary>One access at an address that may be dead, whatever comes of it.</summary>
    internal Errno Touch(ulong address, Span<byte> bytes, bool isWrite) => isWrite ? _port.Write(address, bytes) : _port.Read(address, bytes);

    /// <summary>Gives everything back and detaches.</summary>
    public void Dispose()
    {
        if (_attachment is null)
            return;
        DmaAttachment attachment = _attachment;
        _attachment = null;
        try
        {
            foreach (SgTable table in _tables.ToArray())
            {
                using ReservationGuard guard = _buffer.Reservation.Lock();
                attachment.Unmap(table, guard.Held);
            }

            _buffer.Detach(attachment, _target);
            int left = _world.Fabric.Mappings.Count(m => m.Device == Name);
            _world.Check(left == 0, "T8", $"{left} mappings of {Name} are left although every table was given back.");
        }
        finally
        {
            _device.MarkRemoved();
            _world.Fabric.RemoveDevice(_space);
        }
    }

    private static List<(ulong Address, int Length)> Parts(SgTable table, long offset, int length)
    {
        var parts = new List<(ulong, int)>();
        foreach (DeviceRange range in table.Ranges)
        {
            if (length == 0)
                break;
            if (offset < range.Length)
            {
                int part = (int)Math.Min(length, range.Length - offset);
                parts.Add((range.Address + (ulong)offset, part));
                offset += part;
                length -= part;
            }

            offset -= range.Length;
        }

        return parts;
    }

    private sealed class Target(RawDevice device) : IInvalidationTarget
    {
        public void Invalidate(InvalidationBatch batch, in HeldReservation held)
        {
            device.Invalidations++;
            device.OnInvalidate?.Invoke();
        }
    }
}
