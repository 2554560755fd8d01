using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>Strict and lazy mode: page table, IOTLB, an allocator of device addresses, and in lazy mode a flush queue.</summary>
internal sealed class TranslatingDomain : IommuDomain
{
    private readonly PageTable _table = new();
    private readonly Iotlb _iotlb;
    private readonly DeviceAddressAllocator _addresses;
    private readonly Queue<MappingRecord> _flushQueue = new();
    private readonly bool _lazy;

    public TranslatingDomain(ModelIommu owner, string deviceName, PhysicalMemory memory)
        : base(owner, deviceName, memory)
    {
        _iotlb = new Iotlb(Options.IotlbEntries);
        _addresses = new DeviceAddressAllocator(Options.AddressBits, Options.ReuseDelay);
        _lazy = Options.Mode == IommuMode.Lazy;
    }

    public override ulong Establish(in MemoryRange memory, DmaDirection direction)
    {
        ulong physical = Physical.BaseOf(memory.Region) + (ulong)memory.Offset;
        ulong pages = (ulong)memory.Length >> PageTable.PageShift;

        // Equal offsets within 2 MiB on both sides let the table use large leaves; better small ones than none.
        ulong alignment = memory.Length >= (long)PageTable.LargeSize ? PageTable.LargeSize >> PageTable.PageShift : 1;
        ulong phase = physical >> PageTable.PageShift & (alignment - 1);
        if (!TryAllocate(pages, alignment, phase, out ulong first) && !TryAllocate(pages, 1, 0, out first))
        {
            throw new DmaBufIoException(
                Errno.ENOMEM,
                "Iommu",
                DeviceName,
                $"no {memory.Length} contiguous device addresses are left below 0x{AddressLimit:x}",
                "Unmap what is not used, or widen AddressBits",
                range: $"{memory.Offset}+{memory.Length}");
        }

        ulong address = first << PageTable.PageShift;
        _table.Map(address, physical, (ulong)memory.Length, direction);
        return address;
    }

    public override void Revoke(MappingRecord record)
    {
        _table.Unmap(record.Start, record.End - record.Start);
        if (_lazy)
        {
            // The IOTLB may still serve it: addresses and memory stay reserved for it until the flush.
            _flushQueue.Enqueue(record);
            if (_flushQueue.Count > Options.LazyFlushThreshold)
                Flush();
            return;
        }

        _iotlb.Invalidate(record.Start, record.End);
        Counters.Invalidations++;
        Release(record);
    }

    public override void Flush()
    {
        if (_flushQueue.Count == 0)
            return;
        _iotlb.Flush();
        Counters.Flushes++;
        while (_flushQueue.TryDequeue(out MappingRecord? record))
            Release(record);
    }

    public override void Clear()
    {
        _iotlb.Flush();
        while (_flushQueue.TryDequeue(out MappingRecord? record))
            record.Region = null;
    }

    protected override void TranslateWithin(ulong address, long length, DmaDirection access, out Translation translation)
    {
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

    private bool TryAllocate(ulong pages, ulong alignment, ulong phase, out ulong first)
    {
        if (_addresses.TryAllocate(pages, alignment, phase, out first))
            return true;
        if (_flushQueue.Count == 0)
            return false;
        Flush();
        return _addresses.TryAllocate(pages, alignment, phase, out first);
    }

    private void Release(MappingRecord record)
    {
        record.Region = null;
        _addresses.Free(record.Start >> PageTable.PageShift, (record.End - record.Start) >> PageTable.PageShift);
    }
}
