using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.Errors;

namespace DmaBufIo.DmaBufs;

/// <summary>
/// A device attached to a buffer. Dynamic when its importers take invalidations; static otherwise, which pins the buffer. There is one per
/// buffer, device and kind; several tokens on one device share it.
/// </summary>
public sealed class DmaAttachment
{
    private readonly List<IInvalidationTarget> _targets = [];
    private readonly List<SgTable> _tables = [];
    private readonly Dictionary<BufferPlacement, long> _placements = [];

    internal DmaAttachment(DmaBuf buffer, DmaDevice device, bool isDynamic)
    {
        Buffer = buffer;
        Device = device;
        IsDynamic = isDynamic;
    }

    /// <summary>The buffer.</summary>
    public DmaBuf Buffer { get; }

    /// <summary>The device.</summary>
    public DmaDevice Device { get; }

    /// <summary>True when the buffer may move while attached.</summary>
    public bool IsDynamic { get; }

    /// <summary>Where the buffer lay each time it was mapped for the device, and why there; most often first. Any thread.</summary>
    public IReadOnlyList<PlacementCount> Placements
    {
        get
        {
            lock (_placements)
                return [.. _placements.Select(static p => new PlacementCount(p.Key, p.Value)).OrderByDescending(static p => p.Maps)];
        }
    }

    /// <summary>How many users share the attachment; guarded by the buffer's attachment lock.</summary>
    internal int Users { get; set; }

    /// <summary>The importers to be told, guarded by the buffer's attachment lock.</summary>
    internal List<IInvalidationTarget> Targets => _targets;

    /// <summary>Tables not given back yet.</summary>
    internal int LiveTables => _tables.Count;

    /// <summary>Maps the buffer for the device, or shares the mapping of this generation.</summary>
    /// <param name="direction">The accesses the device needs.</param>
    /// <param name="held">Proof that the buffer's reservation lock is held.</param>
    /// <returns>The table; give it back by <see cref="Unmap"/>.</returns>
    /// <exception cref="DmaBufIoException">The device is gone (<c>ENODEV</c>), the lock is not held (<c>EINVAL</c>, T5), or the exporter or the device's address space cannot map it.</exception>
    public SgTable Map(DmaDirection direction, in HeldReservation held)
    {
        held.AssertFor(Buffer.Reservation);
        Device.ThrowIfRemoved("DmaBufs");
        SgTable? table = _tables.Find(t => t.Direction == direction && t.Generation == Buffer.Generation);
        if (table is null)
        {
            table = Buffer.Exporter.Map(this, direction, held);
            _tables.Add(table);
            lock (_placements)
                _placements[table.Placement] = _placements.GetValueOrDefault(table.Placement) + 1;
        }

        table.Users++;
        return table;
    }

    /// <summary>Gives a table back; the exporter unmaps it when it was the last user.</summary>
    /// <param name="table">From <see cref="Map"/>.</param>
    /// <param name="held">Proof that the buffer's reservation lock is held.</param>
    /// <exception cref="DmaBufIoException">The lock is not held, or the table was given back already (<c>EINVAL</c>, T8).</exception>
    public void Unmap(SgTable table, in HeldReservation held)
    {
        held.AssertFor(Buffer.Reservation);
        if (!_tables.Contains(table) || table.Users == 0)
            throw new DmaBufIoException(Errno.EINVAL, "DmaBufs", $"attachment of {Buffer.Name} to {Device}", "the table was unmapped already or belongs to another attachment", "Unmap each table once, through the attachment that mapped it", rule: "T8");
        if (--table.Users != 0)
            return;
        _tables.Remove(table);
        Buffer.Exporter.Unmap(table, held);
    }
}
