using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Native;
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
    private long _misaligned;
    private int _maxBytes;
    private ulong _namespaceBits;
    private bool _isReadOnly;
    private int _permitted;

    private void InitializeRequests()
    {
        _isCoherent = _function.AddressSpace.IsCoherent;
        _pageShift = _controller.PageShift;
        _pageMask = (1L << _pageShift) - 1;
        _blockShift = _namespace.BlockShift;
        _misaligned = _namespace.Limits.LogicalBlockSize - 1;
        _maxBytes = _namespace.Limits.MaxBytes;
        _namespaceBits = (ulong)_namespace.Id << 32;
        _isReadOnly = _namespace.IsReadOnly;

        // By operation, for the common way: a space that is not coherent needs syncs, which are made on the other.
        // A device that takes less than a page at once is none for it either.
        _permitted = !_isCoherent || _maxBytes < 1 << _pageShift ? 0 : 1 << (int)BioOperation.Read | (_isReadOnly ? 0 : 1 << (int)BioOperation.Write);
    }

    /// <summary>
    /// The common bios: within one page of a map, on a coherent space. Looks at the same rules as <see cref="Start"/>, several at once; a bio that breaks one,
    /// or needs more, ends the loop and goes the other way, which finds the reason.
    /// </summary>
    /// <returns>How many were taken.</returns>
    [Diagnostics.HotPath]
    private int SubmitSmall(ReadOnlySpan<BioHandle> bios)
    {
        if (_state != QueueState.Live)
            return 0;
        BioPool pool = _bios;
        long pageMask = _pageMask;
        long forbidden = _misaligned | long.MinValue;
        int pageShift = _pageShift;
        int blockShift = _blockShift;
        ulong namespaceBits = _namespaceBits;
        DeviceMemory<NvmeCommand> submission = _submission;
        int tail = _tail;
        uint now = (uint)_context.Now;
        Tracker[] trackers = _tags.Trackers;
        ReadOnlySpan<int> free = _tags.FreeTags.AsSpan(0, _tags.Free);
        int entries = _entries;
        NvmeDmaMap? map = null;
        ulong[] pages = [];
        int operations = 0;
        int taken = 0;
        for (; taken < bios.Length; taken++)
        {
            BioHandle handle = bios[taken];
            ref readonly Bio bio = ref pool[handle];
            object? backing = pool.BackingOf(handle);
            if (!ReferenceEquals(backing, map))
            {
                if (backing is not NvmeDmaMap other || !ReferenceEquals(other.Device, _device))
                    break;
                map = other;
                pages = other.Pages;
                operations = _permitted & other.Operations;
            }

            long size = bio.Size;
            long offset = bio.Offset;
            long within = offset & pageMask;
            int operation = (int)bio.Operation;
            long page = offset >> pageShift;
            bool wrong = ((((bio.Sector << 9) | size) & forbidden) | (offset & 3)) != 0;
            if (wrong || (operations & (1 << operation)) == 0 || (ulong)(size - 1) > (ulong)(pageMask - within) || (ulong)page >= (ulong)pages.Length || taken == free.Length)
                break;
            int tag = free[free.Length - 1 - taken];
            ref NvmeCommand command = ref submission[tail];
            command.Dwords01 = (uint)(IoOpcode.Read - operation) | ((uint)tag << 16) | namespaceBits;
            command.Prp1 = pages[page] + (ulong)within;
            command.Prp2 = 0;
            command.StartingLba = (ulong)bio.Sector >> (blockShift - 9);
            command.Dword12 = (uint)(size >> blockShift) - 1;
            trackers[tag] = new Tracker(handle.Index, false, now);
            if (++tail == entries)
                tail = 0;
        }

        _tags.Took(taken);
        _tail = tail;
        return taken;
    }

    /// <summary>Takes a bio; one that fails at once ends here.</summary>
    /// <returns>False: there is no room.</returns>
    [Diagnostics.HotPath]
    private bool TrySubmitAny(BioHandle handle)
    {
        if (_state != QueueState.Live)
            return SubmitStopped(handle);
        // There is one submission entry more than there are tags, and a completed command's entry was fetched before it was executed: a free tag is a
        // free entry, and the head that completions report need not be looked at.
        if (!_tags.TryTake(out int tag))
            return false;
        Errno status = Start(handle, tag);
        if (status != Errno.Ok)
        {
            // It ends here with everything given back (N6); its submission entry was not used up.
            _tags.Release(tag);
            _bios.End(handle, status);
        }

        return true;
    }

    /// <summary>Builds the command of a bio in the next submission entry. On failure nothing is left behind but the tag.</summary>
    [Diagnostics.HotPath]
    private Errno Start(BioHandle handle, int tag)
    {
        ref readonly Bio bio = ref _bios[handle];
        if (bio.Operation == BioOperation.Flush)
        {
            Queue(handle, tag, IoOpcode.Flush, 0, 0, 0, 0, ownRange: false);
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
        Queue(handle, tag, opcode, entries.First, entries.Second, (ulong)bio.Sector >> (_blockShift - 9), (uint)(bio.Size >> _blockShift) - 1, ownRange);
        return Errno.Ok;
    }

    // Straight into the queue's memory. What no command of this driver uses was zeroed with the queue and stays so.
    [Diagnostics.HotPath]
    private void Queue(BioHandle handle, int tag, uint opcode, ulong prp1, ulong prp2, ulong firstBlock, uint lastBlock, bool ownRange)
    {
        int tail = _tail;
        ref NvmeCommand command = ref _submission[tail];
        command.Dwords01 = opcode | ((uint)tag << 16) | _namespaceBits;
        command.Prp1 = prp1;
        command.Prp2 = prp2;
        command.StartingLba = firstBlock;
        command.Dword12 = lastBlock;
        _tail = tail + 1 == _entries ? 0 : tail + 1;
        ref Tracker tracker = ref _tags[tag];
        tracker = new Tracker(handle.Index, ownRange, (uint)_context.Now);
    }

    // The limits that callers promised to obey (B3). A command that breaks them would move other bytes than were asked for.
    [Diagnostics.HotPath]
    private Errno Check(in Bio bio)
    {
        long bits = ((bio.Sector << 9) | bio.Size) & _misaligned | (bio.Offset & 3);
        bool fits = bits == 0 && (ulong)(bio.Size - 1) < (ulong)_maxBytes && (bio.Sector | bio.Offset) >= 0;
        if (!fits)
            return Errno.EINVAL;
        return bio.Operation == BioOperation.Write && _isReadOnly ? Errno.EROFS : Errno.Ok;
    }

    [Diagnostics.HotPath]
    private Errno UseMap(BioHandle handle, in Bio bio, int tag, out PrpEntries entries)
    {
        entries = default;
        if (_bios.BackingOf(handle) is not NvmeDmaMap map)
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
        entries = Describe(map.Pages, bio.Offset, (int)bio.Size, tag);
        return Errno.Ok;
    }

    // The way without a map: what the device sees is made and undone for this request alone. Allocates what the address space's mapping
    // allocates, no more. Called in a batch of the context, where nobody may sleep: DmaAddressSpace says what that asks of Map and Unmap.
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private Errno MapPages(BioHandle handle, in Bio bio, int tag, out PrpEntries entries)
    {
        entries = default;
        if (_bios.BackingOf(handle) is not MemoryRegion region)
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

    [Diagnostics.HotPath]
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
        ref Tracker tracker = ref _tags[tag];
        var handle = new BioHandle(tracker.Bio);
        if (tracker.HasOwnRange | !_isCoherent)
            GiveBack(handle, tag, tracker.HasOwnRange);
        tracker = Tracker.Free;
        _tags.Return(tag);
        _bios.End(handle, status);
    }

    private void GiveBack(BioHandle handle, int tag, bool ownRange)
    {
        if (ownRange)
            UnmapPages(handle, tag);
        else if (_bios.BackingOf(handle) is NvmeDmaMap map)
            map.SyncForCpu(_bios[handle].Offset, _bios[handle].Size);
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
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
