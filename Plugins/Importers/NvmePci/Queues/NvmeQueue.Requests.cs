using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Protocol;
using DmaBufIo.Importers.NvmePci.Tokens;
using DmaBufIo.Memory;

namespace DmaBufIo.Importers.NvmePci.Queues;

/// <content>From bio to command, and back.</content>
internal sealed partial class NvmeQueue
{
    private bool _isCoherent;
    private int _pageShift;
    private long _pageMask;
    private int _blockShift;
    private uint _misaligned;
    private int _maxBytes;
    private uint _namespaceId;
    private bool _isReadOnly;

    private void InitializeRequests()
    {
        _isCoherent = _function.AddressSpace.IsCoherent;
        _pageShift = _controller.PageShift;
        _pageMask = (1L << _pageShift) - 1;
        _blockShift = _namespace.BlockShift;
        _misaligned = (uint)_namespace.Limits.LogicalBlockSize - 1;
        _maxBytes = _namespace.Limits.MaxBytes;
        _namespaceId = _namespace.Id;
        _isReadOnly = _namespace.IsReadOnly;
    }

    /// <summary>Builds the command of a bio in the next submission entry. On failure nothing is left behind but the tag.</summary>
    private Errno Start(BioHandle handle, int tag)
    {
        ref Bio bio = ref _bios[handle];
        if (bio.Operation == BioOperation.Flush)
        {
            Queue(handle, tag, IoOpcode.Flush, default, 0, 0, ownRange: false);
            return Errno.Ok;
        }

        Errno status = Check(bio);
        if (status != Errno.Ok)
            return status;
        bool ownRange = bio.Backing == BioBacking.Pages;
        PrpEntries entries;
        status = ownRange ? MapPages(handle, bio, tag, out entries) : UseMap(handle, bio, tag, out entries);
        if (status != Errno.Ok)
            return status;
        uint opcode = bio.Operation == BioOperation.Write ? IoOpcode.Write : IoOpcode.Read;
        Queue(handle, tag, opcode, entries, (ulong)bio.Sector >> (_blockShift - 9), (uint)(bio.Size >> _blockShift) - 1, ownRange);
        return Errno.Ok;
    }

    // Straight into the queue's memory. What no command of this driver uses was zeroed with the queue and stays so.
    private void Queue(BioHandle handle, int tag, uint opcode, in PrpEntries entries, ulong firstBlock, uint lastBlock, bool ownRange)
    {
        int tail = _tail;
        ref NvmeCommand command = ref _submission[tail];
        command.Dword0 = opcode | ((uint)tag << 16);
        command.NamespaceId = _namespaceId;
        command.Prp1 = entries.First;
        command.Prp2 = entries.Second;
        command.StartingLba = firstBlock;
        command.Dword12 = lastBlock;
        _tail = tail + 1 == _entries ? 0 : tail + 1;
        ref Tracker tracker = ref _tags[tag];
        tracker.Bio = handle.Index;
        tracker.HasOwnRange = ownRange;
        tracker.StartedAt = _context.Now;
    }

    // The limits that callers promised to obey (B3). A command that breaks them would move other bytes than were asked for.
    private Errno Check(in Bio bio)
    {
        if (bio.Operation == BioOperation.Write && _isReadOnly)
            return Errno.EROFS;
        bool aligned = (((ulong)bio.Sector << 9 | (ulong)bio.Size) & _misaligned) == 0 && (bio.Offset & 3) == 0;
        return aligned && bio.Size > 0 && bio.Size <= _maxBytes && bio.Sector >= 0 && bio.Offset >= 0 ? Errno.Ok : Errno.EINVAL;
    }

    private Errno UseMap(BioHandle handle, in Bio bio, int tag, out PrpEntries entries)
    {
        entries = default;
        if (_bios.MapOf(handle) is not NvmeDmaMap map)
            return Errno.EINVAL;
        if (!ReferenceEquals(map.Device, _device))
            return Errno.EBADF;
        DmaDirection needed = bio.Operation == BioOperation.Write ? DmaDirection.ToDevice : DmaDirection.FromDevice;
        if ((map.Direction & needed) == 0)
            return Errno.EACCES;
        if (bio.Offset > map.Length - bio.Size)
            return Errno.EFAULT;
        if (!_isCoherent)
            map.SyncForDevice(bio.Offset, bio.Size);

        // Within one page, as most small requests are, there is no list to build.
        long within = bio.Offset & _pageMask;
        entries = within + bio.Size <= _pageMask + 1
            ? new PrpEntries(map.Pages[bio.Offset >> _pageShift] + (ulong)within, 0)
            : Describe(map.Pages, bio.Offset, (int)bio.Size, tag);
        return Errno.Ok;
    }

    // The way without a registration: what the device sees is made and undone for this request alone. Allocates.
    private Errno MapPages(BioHandle handle, in Bio bio, int tag, out PrpEntries entries)
    {
        entries = default;
        if (_bios.RegionOf(handle) is not { } region)
            return Errno.EINVAL;
        if (bio.Offset > region.Length - bio.Size)
            return Errno.EFAULT;
        long unit = Math.Max(_function.AddressSpace.Granularity, 1 << _pageShift);
        long start = bio.Offset & -unit;
        long end = (bio.Offset + bio.Size + unit - 1) & -unit;
        DeviceRange range;
        try
        {
            DmaDirection direction = bio.Operation == BioOperation.Write ? DmaDirection.ToDevice : DmaDirection.FromDevice;
            range = _function.AddressSpace.Map(new MemoryRange(region, start, end - start), direction, region.Name);
        }
        catch (DmaBufIoException e)
        {
            // The request path answers a status; the address space's reason is lost with it.
            return e.Errno;
        }

        long within = bio.Offset - start;
        if (!_isCoherent)
            range.Space.SyncForDevice(range, within, bio.Size);
        ulong[] pages = new ulong[(end - start) >> _pageShift];
        for (int i = 0; i < pages.Length; i++)
            pages[i] = range.Address + ((ulong)i << _pageShift);
        _ownRanges[tag] = range;
        entries = Describe(pages, within, (int)bio.Size, tag);
        return Errno.Ok;
    }

    private PrpEntries Describe(ulong[] pages, long offset, int length, int tag)
    {
        int slots = _layout.ListSize / sizeof(ulong);
        ulong address = _memory.Address + (ulong)(_layout.ListOffset + ((long)tag * _layout.ListSize));
        return PrpList.Build(pages, _pageShift, offset, length, _lists.Slice(tag * slots, slots), address);
    }

    /// <summary>Ends the command of a tag, once. T18: the CPU sync comes first, then the bio is ended, and its owner drops the map
    /// reference.</summary>
    private void Finish(int tag, Errno status)
    {
        ref Tracker tracker = ref _tags[tag];
        var handle = new BioHandle(tracker.Bio);
        if (tracker.HasOwnRange)
            UnmapPages(handle, tag);
        else if (!_isCoherent && _bios.MapOf(handle) is NvmeDmaMap map)
            map.SyncForCpu(_bios[handle].Offset, _bios[handle].Size);
        _tags.Release(tag);
        _bios.End(handle, status);
    }

    private void UnmapPages(BioHandle handle, int tag)
    {
        DeviceRange range = _ownRanges[tag]!;
        _ownRanges[tag] = null;
        ref Bio bio = ref _bios[handle];
        if (!_isCoherent)
            range.Space.SyncForCpu(range, bio.Offset - range.Memory.Offset, bio.Size);
        range.Space.Unmap(range);
    }
}
