using System.Collections.Concurrent;
using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Memory;
using DmaBufIo.Sync;
using DmaBufIo.Tokens;

namespace DmaBufIo.Fixtures.FaultyBlockDevice;

/// <summary>A disk in memory. Works where the doorbell rings, or on a thread of its own once a queue wants interrupts.</summary>
internal sealed class FaultyDisk : BlockDevice, IResettable, IDisposable
{
    private readonly IDmaFabric _fabric;
    private readonly MemoryRegion _store;
    private readonly DmaDevice _device;
    private readonly DmaPort _port;
    private readonly Fault _fault;
    private readonly ContextSet _contexts = new();
    private readonly Lock _threadLock = new();
    private readonly BlockingCollection<Action> _work = [];
    private readonly DiskShape _shape;
    private readonly DescriptorPool _pool;
    private Thread? _thread;
    private int _resets;
    private int _queues;

    internal FaultyDisk(IDmaFabric fabric, string name, long size, DiskShape shape, Fault fault)
    {
        _shape = shape;
        _fabric = fabric;
        _fault = fault;
        _store = MemoryRegion.Allocate(name, size);
        (DmaAddressSpace space, _port) = fabric.AddDevice(name);
        _device = new DmaDevice(name, space);
        _pool = new DescriptorPool(space);
    }

    public override string Name => _device.Name;

    public override long Capacity => _store.Length;

    public override QueueLimits Limits =>
        _fault.Is("odd-limits") ? _shape.Limits with { MaxBytes = (1 << 20) - 100 }
        : _fault.Is("one-segment") ? _shape.Limits with { MaxSegments = 1 }
        : _shape.Limits;

    public override bool IsRemoved => _device.IsRemoved;

    public override bool IsReadOnly => _shape.IsReadOnly;

    public override string Description => $"disk of {Capacity} bytes with a fault";

    internal Fault Fault => _fault;

    /// <summary>How often it was reset: what was rung for before the last time is not begun any more.</summary>
    internal int Resets => Volatile.Read(ref _resets);

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth)
    {
        if (Interlocked.Increment(ref _queues) > _shape.Queues)
        {
            Interlocked.Decrement(ref _queues);
            throw new DmaBufIoException(Errno.EBUSY, "FaultyBlockDevice", Name, $"all of its {_shape.Queues} queues are open", "Close one");
        }

        _contexts.Add(context);
        if (IsRemoved)
        {
            Forget(context);
            _device.ThrowIfRemoved("FaultyBlockDevice");
        }

        depth = Math.Min(depth, _shape.Depth);
        return _shape.Ends == DiskEnds.Backwards ? new BackwardsQueue(this, context, bios, depth) : new FaultyDiskQueue(this, context, bios, depth, _shape);
    }

    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) =>
        _fault.Is("no-token") ? null : new DiskTokenDriver(buffer, direction, _device, _shape.Looks, _shape.HasPool ? _pool : null);

    internal void Forget(IoContext context)
    {
        Interlocked.Decrement(ref _queues);
        _contexts.Remove(context);
    }

    /// <summary>Has the thread work at a queue; nobody does once the disk is being removed.</summary>
    internal void Ring(Action work)
    {
        if (_fault.Is("looks-without-its-lock") && !IsRemoved)
        {
            lock (_threadLock)
            {
                if (_thread is not null && !_work.IsAddingCompleted)
                    _work.Add(work);
                if (_thread is not null)
                    return; // as if whoever ends the thread could not have come since
            }
        }

        lock (_threadLock)
        {
            if (!IsRemoved)
            {
                if (_thread is null)
                {
                    _thread = new Thread(Run) { Name = Name, IsBackground = true };
                    _thread.Start();
                }

                _work.Add(work);
                return;
            }
        }

        work();
    }

    /// <summary>Moves the data of a bio.</summary>
    internal Errno Move(in Bio bio, object? backing)
    {
        if (IsRemoved && !_fault.Is("lives-on"))
            return Errno.ENODEV;
        if (bio.Operation == BioOperation.Flush)
            return _fault.Is("refuses-flush") ? Errno.EOPNOTSUPP : Errno.Ok;
        if (IsRemoved)
            return Errno.Ok;
        if (IsReadOnly && bio.Operation == BioOperation.Write && !_fault.Is("writes-when-read-only"))
            return Errno.EROFS;
        if (!IsWithinLimits(bio, backing))
            return Errno.EINVAL;
        if (_shape.Slow != 0)
            Thread.Sleep(_shape.Slow);
        if ((_fault.Is("takes-less") && bio.Size > 65536) || (_fault.Is("wants-aligned-memory") && bio.Offset % 512 != 0))
            return Errno.EINVAL;
        Bio moved = bio;
        if (_fault.Is("ignores-page-offset") && bio.Backing == BioBacking.Pages)
            moved.Offset = 0;
        if (_fault.Is("size-in-16-bits"))
            moved.Size &= 0xFFFF;
        long place = bio.Sector << 9;
        if (_fault.Is("place-in-32-bits"))
            place = (uint)place;
        if (moved.Size == 0)
            return Errno.Ok;
        Errno status = BioTransfer.Move(moved, backing, _device, _port, _store.Span(place, (int)moved.Size));
        if (status != Errno.Ok && backing is MemoryRegion pages && _fault.Is("leaves-mapping"))
            _device.AddressSpace.Map(new MemoryRange(pages, 0, 4096), DmaDirection.ToDevice, pages.Name);
        return status;
    }

    /// <summary>What was not begun is ended; what is being moved comes to its end; then the maps are killed (T11).</summary>
    public void Reset()
    {
        _device.ThrowIfRemoved("FaultyBlockDevice");
        Interlocked.Increment(ref _resets);

        // Those who work in their own batch, then the thread: behind what it was given before, which it only has to end.
        _contexts.VisitAll();

        // Whoever is visited for the maps looks at what has ended by then: what ends after that is told by interrupts alone.
        if (_fault.Is("resets-in-silence"))
            _device.KillMaps();
        if (_thread is not null)
        {
            var ended = new Completion();
            Ring(ended.Complete);
            ended.Wait(new WaitReason($"reset of {Name}"));
        }

        if (!_fault.Is("keeps-maps-at-reset"))
            _device.KillMaps();
    }

    /// <summary>Removes the disk: what is in flight ends, then every map of it goes (T11).</summary>
    public void Dispose()
    {
        _device.MarkRemoved();
        lock (_threadLock)
            _work.CompleteAdding();
        _thread?.Join();

        // Whoever is inside a batch may be using the store.
        _contexts.VisitAll();
        _device.Remove();
        _pool.Dispose();
        _fabric.RemoveDevice(_device.AddressSpace);
        _store.Dispose();
        _work.Dispose();
    }

    // It believes in its limits: what is beyond them is refused.
    private bool IsWithinLimits(in Bio bio, object? backing)
    {
        QueueLimits limits = _shape.Limits;
        long offset = bio.Offset;
        long size = bio.Size;
        if (size > limits.MaxBytes || size % limits.LogicalBlockSize != 0 || (bio.Sector << 9) % limits.LogicalBlockSize != 0 || offset % limits.DmaAlignment != 0)
            return false;

        // Where there are thousands of ranges it does not look: a walk would cost more at the end of the buffer (N4).
        if (backing is not RangeMap map || limits.MaxSegments == int.MaxValue || map.Table.Ranges.Count > 1000)
            return true;
        int segments = 0;
        long start = 0;
        foreach (DeviceRange range in map.Table.Ranges)
        {
            segments += start < offset + size && offset < start + range.Length ? 1 : 0;
            start += range.Length;
        }

        return segments <= limits.MaxSegments;
    }

    private void Run()
    {
        foreach (Action work in _work.GetConsumingEnumerable())
            work();
    }
}
