using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// Strict and lazy mode: page table, IOTLB, an invalidation queue, an allocator of device addresses, and in lazy mode a flush queue.
/// </summary>
/// <remarks>
/// <para>
/// Life of an unmapped range. Its table entries are cleared under the gate. Strict: an invalidation and a wait are queued under
/// the same hold, and the unmap returns when the wait was acknowledged. Lazy: it goes to the flush queue; the one that is too
/// many queues one invalidation of everything and a wait, and its unmap returns when that was acknowledged. Acknowledged ranges are
/// reaped by the next map or unmap: only then are their addresses available again, so no IOTLB entry ever meets a new mapping.
/// </para>
/// <para>
/// The device works the queue off before each translation. So it is never served by an entry whose invalidation was queued
/// before, though it may be the first to notice: then the device itself acknowledges.
/// </para>
/// </remarks>
internal sealed class TranslatingDomain : IommuDomain
{
    private readonly PageTable _table = new();
    private readonly Iotlb _iotlb;
    private readonly InvalidationQueue _queue;
    private readonly InvalidationAgent _agent;
    private readonly DeviceAddressAllocator _addresses;
    private readonly Queue<MappingRecord> _flushQueue = new();
    private readonly Queue<(long Wait, MappingRecord Record)> _invalidated = new();
    private readonly bool _lazy;
    private bool _waitNeeded;
    private bool _armNeeded;

    public TranslatingDomain(ModelIommu owner, string deviceName, PhysicalMemory memory)
        : base(owner, deviceName, memory)
    {
        _iotlb = new Iotlb(Options.IotlbEntries);
        _queue = new InvalidationQueue(_iotlb, Counters);
        _agent = new InvalidationAgent(this, _queue, Options);
        _addresses = new DeviceAddressAllocator(Options.AddressBits, Options.ReuseDelay);
        _lazy = Options.Mode == IommuMode.Lazy;
    }

    public override ulong Establish(in MemoryRange memory, DmaDirection direction)
    {
        Reap();
        ulong physical = Physical.BaseOf(memory.Region) + (ulong)memory.Offset;
        if (!TryAllocate(physical, memory.Length, out ulong first))
        {
            // Nobody else can execute the queue while the gate is held here, so this thread does.
            if (_invalidated.Count == 0 && _flushQueue.Count == 0)
                throw Exhausted(memory);
            QueueFlush();
            _queue.Execute();
            Reap();
            if (!TryAllocate(physical, memory.Length, out first))
                throw Exhausted(memory);
        }

        ulong address = first << PageTable.PageShift;
        _table.Map(address, physical, (ulong)memory.Length, direction);
        return address;
    }

    public override void Revoke(MappingRecord record)
    {
        Reap();
        _table.Unmap(record.Start, record.End - record.Start);
        if (!_lazy)
        {
            Invalidated(record);
            _queue.PutRange(record.Start, record.End);
            _waitNeeded = true;
            return;
        }

        // The IOTLB may still serve it: addresses and memory stay reserved for it until the flush.
        _flushQueue.Enqueue(record);
        if (_flushQueue.Count > Options.LazyFlushThreshold)
            PutFlush();
        else
            _armNeeded |= _flushQueue.Count == 1;
    }

    public override long QueueWait()
    {
        if (!_waitNeeded)
            return 0;
        _waitNeeded = false;
        return _queue.PutWait();
    }

    public override long QueueFlush()
    {
        if (_flushQueue.Count != 0)
            PutFlush();
        return QueueWait();
    }

    public override void Await(long wait)
    {
        if (_armNeeded)
            Arm();
        if (wait != 0)
            _agent.Await(wait);
    }

    public override void Reap()
    {
        while (_invalidated.TryPeek(out (long Wait, MappingRecord Record) oldest) && oldest.Wait <= _queue.Acknowledged)
        {
            MappingRecord record = _invalidated.Dequeue().Record;
            _addresses.Free(record.Start >> PageTable.PageShift, (record.End - record.Start) >> PageTable.PageShift);
            Shadow.Recycle(record);
        }
    }

    public override void Clear()
    {
        _queue.Execute();
        _iotlb.Flush();
        _invalidated.Clear();
        _flushQueue.Clear();
    }

    public override void End() => _agent.Stop();

    protected override void TranslateWithin(ulong address, long length, DmaDirection access, out Translation translation)
    {
        if (_queue.HasPending)
            _queue.Execute();
        int index = FindPage(address);
        if (index < 0)
        {
            translation = Translation.Refused(AccessProblem.NotMapped, Shadow.FindEnded(address));
            return;
        }

        ref readonly Iotlb.Line line = ref _iotlb[index];
        MappingRecord record = line.Record!;
        if ((line.Permission & access) != access)
        {
            translation = Translation.Refused(AccessProblem.WrongDirection, record);
            return;
        }

        translation = new Translation
        {
            Problem = record.Ended ? AccessProblem.ServedAfterUnmap : AccessProblem.None,
            Record = record,
            Region = line.Region,
            Offset = line.RegionOffset + (long)(address - line.Page),
        };

        // A mapping is contiguous in memory, so its pages make one run; each is looked up all the same, as the device does.
        ulong end = Math.Min(record.End, address + (ulong)length);
        ulong next = Math.Min(end, line.Page + (1UL << line.PageShift));
        while (next < end)
        {
            index = FindPage(next);
            if (index < 0)
                break;
            line = ref _iotlb[index];
            next = Math.Min(end, line.Page + (1UL << line.PageShift));
        }

        translation.Length = (int)(next - address);
    }

    /// <summary>Index of the IOTLB line for an address, walking the table when there is none; -1 when nothing is mapped.</summary>
    private int FindPage(ulong address)
    {
        int index = _iotlb.Find(address);
        if (index >= 0)
        {
            Counters.IotlbHits++;
            return index;
        }

        Counters.IotlbMisses++;
        Counters.TableWalks++;
        ulong leaf = _table.Walk(address, out int pageShift);
        if (leaf == 0)
            return -1;

        // Table, memory bus and shadow record are kept apart, so that a slip in one does not go unnoticed.
        MappingRecord? record = Shadow.Live.Find(address);
        bool known = Physical.TryFind(PageTable.PhysicalOf(leaf), out MemoryRegion? region, out long offset);
        if (record is null || !known || region != record.Region)
            throw new InvalidOperationException($"IOMMU of {DeviceName}: the table maps 0x{address:x}, the shadow record says {record}.");
        index = _iotlb.Insert(address, pageShift);
        ref Iotlb.Line line = ref _iotlb[index];
        line.Record = record;
        line.Region = region;
        line.RegionOffset = offset;
        line.Permission = PageTable.PermissionOf(leaf);
        return index;
    }

    /// <summary>
    /// Equal offsets within 1 GiB or 2 MiB on both sides let the table use large leaves; better small ones than none.
    /// </summary>
    private bool TryAllocate(ulong physical, long length, out ulong first)
    {
        ulong pages = (ulong)length >> PageTable.PageShift;
        ulong page = physical >> PageTable.PageShift;
        for (int level = PageTable.LargestLeafLevel; ; level--)
        {
            ulong alignment = 1UL << (PageTable.ShiftOf(level) - PageTable.PageShift);
            if (pages >= alignment && _addresses.TryAllocate(pages, alignment, page & (alignment - 1), out first))
                return true;
            if (level == 1)
                break;
        }

        first = 0;
        return false;
    }

    /// <summary>Notes which acknowledgement makes an ended mapping's addresses available.</summary>
    private void Invalidated(MappingRecord record)
    {
        // IOTLB lines hold the memory themselves until they are dropped.
        record.Region = null;
        _invalidated.Enqueue((_queue.NextWait, record));
    }

    private void PutFlush()
    {
        _queue.PutGlobal();
        _waitNeeded = true;
        while (_flushQueue.TryDequeue(out MappingRecord? record))
            Invalidated(record);
    }

    private void Arm()
    {
        // Two threads may both see it; arming twice is harmless.
        _armNeeded = false;
        _agent.ArmIdleFlush();
    }

    private DmaBufIoException Exhausted(in MemoryRange memory) => new(
        Errno.ENOMEM,
        "Iommu",
        DeviceName,
        $"no {memory.Length} contiguous device addresses are left below 0x{AddressLimit:x}",
        "Unmap what is not used, or widen AddressBits",
        range: $"{memory.Offset}+{memory.Length}");
}
