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
    private int _blockShift;
    private uint _misaligned;
    private int _maxBytes;
    private uint _namespaceId;
    private bool _isReadOnly;

    private void InitializeRequests()
    {
        _isCoherent = _function.AddressSpace.IsCoherent;
        _pageShift = _controller.PageShift;
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
        var command = new NvmeCommand { NamespaceId = _namespaceId };
        bool ownRange = false;
        if (bio.Operation == BioOperation.Flush)
        {
            command.Dword0 = IoOpcode.Flush | ((uint)tag << 16);
        }
        else
        {
            Errno status = Check(bio);
            if (status != Errno.Ok)
                return status;
            ownRange = bio.Backing == BioBacking.Pages;
            PrpEntries entries;
            status = ownRange ? MapPages(handle, bio, tag, out entries) : UseMap(handle, bio, tag, out entries);
            if (status != Errno.Ok)
                return status;
            command.Dword0 = (bio.Operation == BioOperation.Write ? IoOpcode.Write : IoOpcode.Read) | ((uint)tag << 16);
            command.Prp1 = entries.First;
            command.Prp2 = entries.Second;
            command.StartingLba = (ulong)bio.Sector >> (_blockShift - 9);
            command.Dword12 = (uint)(bio.Size >> _blockShift) - 1;
        }

        _submission[_tail] = command;
        if (++_tail == Entries)
            _tail = 0;
        ref Tracker tracker = ref _tags[tag];
        tracker.Bio = handle.Index;
        tracker.HasOwnRange = ownRange;
        tracker.StartedAt = _context.Now;
        return Errno.Ok;
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
        if (!ReferenceEquals(map.Device, _controller.Device))
            return Errno.EBADF;
        DmaDirection needed = bio.Operation == BioOperation.Write ? DmaDirection.ToDevice : DmaDirection.FromDevice;
        if ((map.Direction & needed) == 0)
            return Errno.EACCES;
        if (bio.Offset > map.Length - bio.Size)
            return Errno.EFAULT;
        if (!_isCoherent)
            map.SyncForDevice(bio.Offset, bio.Size);
        entries = Describe(map.Pages, bio.Offset, (int)bio.Size, tag);
        return Errno.Ok;
    }

    // The way without a map: what the device sees is made and undone for this request alone. Allocates what the address space's mapping allocates, no more.
    // Called in a batch of the context, where nobody may sleep: DmaAddressSpace says what that asks of its Map and Unmap.
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

        if ((range.Address & (ulong)((1L << _pageShift) - 1)) != 0)
        {
            // PRP cannot describe it: the same answer as for a map (N9).
            range.Space.Unmap(range);
            return Errno.EOPNOTSUPP;
        }

        long within = bio.Offset - start;
        if (!_isCoherent)
            range.Space.SyncForDevice(range, within, bio.Size);
        _ownRanges[tag] = range;
        Span<ulong> list = ListOf(tag, out ulong address);
        entries = PrpList.BuildContiguous(range.Address + (ulong)within, _pageShift, (int)bio.Size, list, address);
        return Errno.Ok;
    }

    private PrpEntries Describe(ulong[] pages, long offset, int length, int tag)
    {
        Span<ulong> list = ListOf(tag, out ulong address);
        return PrpList.Build(pages, _pageShift, offset, length, list, address);
    }

    private Span<ulong> ListOf(int tag, out ulong address)
    {
        int slots = _layout.ListSize / sizeof(ulong);
        address = _memory.Address + (ulong)(_layout.ListOffset + ((long)tag * _layout.ListSize));
        return _lists.Slice(tag * slots, slots);
    }

    /// <summary>Ends the command of a tag, once. T18: the CPU sync comes first, then the bio is ended, and its owner drops the map
    /// reference.</summary>
    private void Finish(int tag, Errno status)
    {
        var handle = new BioHandle(_tags[tag].Bio);
        if (_tags[tag].HasOwnRange)
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
