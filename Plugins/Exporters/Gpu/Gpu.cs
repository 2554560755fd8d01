using DmaBufIo.Devices;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Engines;
using DmaBufIo.Exporters.Gpu.Jobs;
using DmaBufIo.Exporters.Gpu.Memory;
using DmaBufIo.Sync;

namespace DmaBufIo.Exporters.Gpu;

/// <summary>A GPU: its memory, its engines, its place in the PCI tree. Lives while it has buffers.</summary>
internal sealed class Gpu : IDisposable
{
    private readonly VramHeap _heap;
    private readonly SystemPool _pool;
    private readonly Engine _copies;
    private readonly Engine _compute;
    private readonly WorkQueue _workers;
    private readonly Action<Gpu> _ended;
    private int _buffers;

    /// <summary>Makes a GPU with one user, who makes the first buffer and then leaves (<see cref="Leave"/>).</summary>
    internal Gpu(string name, long vram, DeviceLocation location, Action<Gpu> ended)
    {
        Name = name;
        Location = location;
        _ended = ended;
        _heap = new VramHeap(name, vram);
        _pool = new SystemPool(2 * vram);
        _copies = new Engine($"{name} copy engine");
        _compute = new Engine($"{name} compute engine");
        _workers = new WorkQueue($"{name} restore", 2);
        Memory = new MemoryManager(_heap, _pool, _copies);
        Jobs = new JobQueue(Memory, _compute);
        _buffers = 1;
    }

    /// <summary>A name for messages.</summary>
    internal string Name { get; }

    /// <summary>Where it hangs.</summary>
    internal DeviceLocation Location { get; }

    /// <summary>Bytes of its memory.</summary>
    internal long Vram => _heap.Size;

    /// <summary>Bytes of it that nobody has.</summary>
    internal long Free => _heap.Free;

    /// <summary>Moves its buffers.</summary>
    internal MemoryManager Memory { get; }

    /// <summary>Takes jobs.</summary>
    internal JobQueue Jobs { get; }

    /// <summary>The copy engine.</summary>
    internal Engine Copies => _copies;

    /// <summary>The compute engine.</summary>
    internal Engine Compute => _compute;

    /// <summary>Who restores what was evicted.</summary>
    internal WorkQueue Workers => _workers;

    /// <summary>Whether a device reaches the GPU's memory.</summary>
    internal PeerPath PathFrom(DmaDevice device) => device.Location is { } location
        ? location.PathTo(Location)
        : new PeerPath(false, "where the device hangs in the PCI tree is not known");

    /// <summary>Takes part in the GPU's life, unless it has ended. The factory's lock is held.</summary>
    internal void Join() => _buffers++;

    /// <summary>Ends one <see cref="Join"/>. The factory's lock is held.</summary>
    /// <returns>True when it was the last: the GPU has ended.</returns>
    internal bool Leave()
    {
        if (--_buffers != 0)
            return false;
        Dispose();
        return true;
    }

    /// <summary>Ends the threads; does not wait for them, one may be the caller. No buffer is left.</summary>
    public void Dispose()
    {
        _copies.Dispose();
        _compute.Dispose();
        _workers.Dispose();
        _heap.Dispose();
        _pool.Dispose();
    }

    /// <summary>Makes a buffer, in the GPU's memory where it is wanted there.</summary>
    /// <exception cref="DmaBufIoException">Too large for the GPU, or no room and nobody who may be evicted (<c>ENOMEM</c>).</exception>
    internal GpuBuffer Create(string name, long size, bool inVram, int priority)
    {
        Place place = inVram ? TakePlace(name, size, priority) : _pool.Take(name, size);
        GpuBuffer made;
        try
        {
            made = GpuBuffer.Create(this, place, name, size, inVram, priority);
        }
        catch
        {
            place.Leave(poison: false);
            if (inVram)
                Memory.EndTransit();
            throw;
        }


        // Others had the memory before: it is cleared, and nobody sees it earlier.
        using (ReservationGuard guard = made.Buffer.Reservation.Lock())
        {
            made.Buffer.Reservation.Reserve(guard.Held, 1);
            DmaFence fence = _copies.NewFence();
            made.Buffer.Get();
            _copies.Queue(new EngineJob(fence, [], () => place.Fill(0)) { Afterwards = made.Buffer.Put });
            made.Buffer.Reservation.Add(guard.Held, fence, FenceUsage.Kernel);
        }

        if (inVram)
            Memory.Add(made);
        return made;
    }

    /// <summary>A buffer is gone.</summary>
    internal void Remove(GpuBuffer buffer)
    {
        Memory.Remove(buffer);
        _ended(this);
    }

    private Place TakePlace(string name, long size, int priority)
    {
        if (VramHeap.Rounded(size) > Vram)
            throw NoRoom(name, size, $"the GPU has {Vram}");
        var context = new AcquireContext();
        Errno status = Memory.TryTake(VramHeap.Rounded(size), priority, context, out IReadOnlyList<VramRange>? ranges);
        return status == Errno.Ok
            ? _heap.PlaceOf(name, size, ranges!)
            : throw NoRoom(name, size, "what else lies there is pinned or of a higher priority");
    }

    private DmaBufIoException NoRoom(string name, long size, string why) => new(
        Errno.ENOMEM,
        GpuPlugin.PluginName,
        $"{name} on {Name}",
        $"there is no room for {size} bytes in the GPU's memory: {why}",
        "Make the buffer smaller, give the GPU more memory (gpu:vram=SIZE), or leave the buffer in main memory (gpu:placement=system)");
}
