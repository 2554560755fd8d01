using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;

namespace DmaBufIo.Exporters.Gpu.Memory;

/// <summary>A buffer object of the GPU: lies in its memory or in main memory, is evicted and restored.</summary>
/// <remarks>Where it lies changes with the reservation lock held; the contents follow on the copy engine, and a KERNEL fence stands for that.</remarks>
internal sealed class GpuBuffer : DmaBufExporter
{
    private static long s_lastId;
    private readonly Dictionary<SgTable, Place> _tables = []; // guarded by the reservation lock
    private Place _place;
    private DmaBuf? _buffer;
    private string _whyHere = "the buffer was made there";

    private GpuBuffer(Gpu gpu, Place place, bool prefersVram, int priority)
    {
        Gpu = gpu;
        _place = place;
        PrefersVram = prefersVram;
        Priority = priority;
    }

    /// <summary>A number that no other buffer has had, from 1.</summary>
    internal long Id { get; } = Interlocked.Increment(ref s_lastId);

    /// <summary>The buffer as others know it.</summary>
    internal DmaBuf Buffer => _buffer!;

    /// <summary>Whose it is.</summary>
    internal Gpu Gpu { get; }

    /// <summary>Jobs want it in the GPU's memory; false: it stays in main memory.</summary>
    internal bool PrefersVram { get; }

    /// <summary>Buffers of a lower priority are evicted first, and none for one of a lower priority.</summary>
    internal int Priority { get; }

    /// <summary>Static attachments that keep it where it is. Guarded by the reservation lock.</summary>
    internal int Pins { get; private set; }

    /// <summary>Where the contents are when the fences of class KERNEL have signalled. Guarded by the reservation lock; may be looked at without.</summary>
    internal Place Place => Volatile.Read(ref _place);

    /// <summary>When it was used last, in the order of uses of all buffers. Guarded by the manager's lock.</summary>
    internal long LastUse { get; set; }

    /// <summary>Whose working set it belongs to, or null. Set once.</summary>
    internal WorkingSet? Set { get; set; }

    /// <summary>Moves so far. Guarded by the reservation lock; may be looked at without.</summary>
    internal long Moves { get; private set; }

    /// <summary>Those of them that hit a map which requests were using.</summary>
    internal long MovesUnderLoad { get; private set; }

    /// <summary>Makes a buffer; its contents are zeros.</summary>
    internal static GpuBuffer Create(Gpu gpu, Place place, string name, long size, bool prefersVram, int priority)
    {
        var made = new GpuBuffer(gpu, place, prefersVram, priority);
        made._buffer = new DmaBuf(name, size, made);
        return made;
    }

    /// <summary>The contents go to another place: the copy engine has been told, and the fence is published.</summary>
    internal void MovedTo(Place place, string why, InvalidationReport report)
    {
        Volatile.Write(ref _place, place);
        _whyHere = why;
        Moves++;
        if (report.Users != 0)
            MovesUnderLoad++;
    }

    /// <summary>Jobs and moves need no reservation lock to end: they may be waited for while it is held.</summary>
    public override bool FencesNeedNoLock => true;

    /// <summary>Maps the buffer where the attached devices reach it: all of them, for a place that only some reach would be left again for the next.</summary>
    /// <exception cref="DmaBufIoException">Pinned in the GPU's memory, which this device does not reach (<c>EREMOTEIO</c>), or what the address space says.</exception>
    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held)
    {
        string? unreachable = null;
        foreach (DmaAttachment each in Buffer.Attached)
        {
            PeerPath path = Gpu.PathFrom(each.Device);
            if (!path.IsOpen)
                unreachable = $"no peer-to-peer for {each.Device.Name}: {path.Reason}";
        }

        PeerPath own = Gpu.PathFrom(attachment.Device);
        if (Place.IsVram && unreachable is not null)
        {
            if (Pins == 0)
                Gpu.Memory.MoveToSystem(this, unreachable, held);
            else if (!own.IsOpen)
                throw NotReachable(attachment.Device, own.Reason);
        }

        // Moves are waited for here also when the token has looked already: this one may have begun one. A device that writes waits for jobs that read, too. None of them needs the lock.
        if (Buffer.Reservation.Wait((direction & DmaDirection.FromDevice) != 0 ? FenceUsage.Read : FenceUsage.Write, context: held.Context) != Errno.Ok)
            throw new DmaBufIoException(Errno.EDEADLK, GpuPlugin.PluginName, Buffer.Name, "an older acquire context wants the buffer", "Give the lock back and start again", rule: "F5");
        Gpu.Memory.Used(this);
        Place place = Place;
        var placement = new BufferPlacement(place.IsVram ? PlacementKind.PeerToPeer : PlacementKind.SystemMemory, place.IsVram ? own.Reason : _whyHere);
        SgTable table = MapMemory(attachment, direction, place.Views(), placement);
        _tables.Add(table, place);
        place.Mapped();
        return table;
    }

    /// <inheritdoc/>
    public override void Unmap(SgTable table, in HeldReservation held)
    {
        UnmapMemory(table);
        _tables.Remove(table, out Place? place);
        place!.Unmapped();
    }

    /// <summary>Keeps the buffer where it is, or in main memory when one of the devices does not reach the GPU's.</summary>
    public override void Pin(in HeldReservation held)
    {
        foreach (DmaAttachment each in Buffer.Attached)
        {
            PeerPath path = Gpu.PathFrom(each.Device);
            if (!path.IsOpen && Place.IsVram)
                Gpu.Memory.MoveToSystem(this, $"no peer-to-peer for {each.Device.Name}: {path.Reason}", held);
        }

        Pins++;
    }

    /// <inheritdoc/>
    public override void Unpin(in HeldReservation held) => Pins--;

    /// <inheritdoc/>
    public override BufferBacking Describe()
    {
        while (true)
        {
            // Without the lock it may be left meanwhile.
            Place place = Place;
            IReadOnlyList<DmaBufIo.Memory.MemoryRange> views = place.Views();
            if (views.Count != 0 || ReferenceEquals(place, Place))
                return new BufferBacking(place.IsVram ? BackingKind.DeviceMemory : BackingKind.HostMemory, views, CanMove: true);
        }
    }

    /// <inheritdoc/>
    public override void Release()
    {
        // Jobs and moves hold references on the buffer: none is left.
        Place.Leave(poison: false);
        Gpu.Remove(this);
    }

    private DmaBufIoException NotReachable(DmaDevice device, string reason) => new(
        Errno.EREMOTEIO,
        GpuPlugin.PluginName,
        $"{Buffer.Name} for {device.Name}",
        $"the buffer is pinned in the GPU's memory, which the device does not reach: {reason}",
        "Attach devices dynamically, attach this one first, or let requests bounce (TransferPolicy.AllowBounce)");
}
