using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Files;

/// <summary>The read and write operations of a block device: checks, splits to the limits (B3), fills bios, submits.</summary>
internal sealed class BlockDeviceFileQueue : FileQueue
{
    private readonly BlockDeviceFile _file;
    private readonly BlockDevice _device;
    private readonly BioPool _bios;
    private readonly BlockQueue _queue;
    private readonly QueueLimits _limits;
    private readonly long _capacity;
    private readonly long _blockMask;
    private readonly long _dmaMask;
    private readonly bool _readOnly;
    private readonly BioHandle[] _gathered = new BioHandle[64];

    internal BlockDeviceFileQueue(BlockDeviceFile file, BioPool bios, BlockQueue queue)
    {
        _file = file;
        _device = file.Device;
        _bios = bios;
        _queue = queue;
        _limits = _device.Limits;
        _capacity = _device.Capacity;
        _blockMask = _limits.LogicalBlockSize - 1;
        _dmaMask = _limits.DmaAlignment - 1;
        _readOnly = file.Flags.HasFlag(OpenFlags.ReadOnly);
    }

    [Diagnostics.HotPath]
    public override Errno ReadIter(ref IoRequest request, ref IovIter iter)
    {
        Errno status = DirectIo.Check(request, iter, _file.Flags, _dmaMask, _blockMask);
        if (status != Errno.Ok)
            return status;

        // A read that crosses the end is short, one at or beyond the end reads nothing.
        long left = _capacity - request.FileOffset;
        if (iter.Count > left)
            iter.Truncate(left);
        return iter.Count == 0 ? Errno.Ok : Issue(BioOperation.Read, ref request, ref iter);
    }

    [Diagnostics.HotPath]
    public override Errno WriteIter(ref IoRequest request, ref IovIter iter)
    {
        Errno status = DirectIo.Check(request, iter, _file.Flags, _dmaMask, _blockMask);
        if (status != Errno.Ok)
            return status;
        if (_readOnly)
            return Errno.EBADF;
        if (_device.IsReadOnly)
            return Errno.EROFS;
        long left = _capacity - request.FileOffset;
        if (left <= 0)
            return Errno.ENOSPC;
        if (iter.Count > left)
            iter.Truncate(left);
        return Issue(BioOperation.Write, ref request, ref iter);
    }

    // The common requests: those that keep all rules and fit one bio each. The first that does not goes the other way, which looks at the rules one after
    // the other. Bios are gathered while the device has room for certain, and given to it in one go.
    [Diagnostics.HotPath]
    public override int IssueRanges(bool isWrite, DmaMap map, Span<IoRequest> requests, ReadOnlySpan<int> tags)
    {
        if ((_file.Flags & OpenFlags.Direct) == 0 || (isWrite && (_readOnly || _device.IsReadOnly)))
            return 0;
        BioOperation operation = isWrite ? BioOperation.Write : BioOperation.Read;
        BioPool bios = _bios;
        BioHandle[] gathered = _gathered;
        long blockMask = _blockMask;
        long dmaMask = _dmaMask;
        long capacity = _capacity;
        long largest = _limits.MaxBytesFor(map.SmallestSegment);
        int issued = 0;
        while (issued < tags.Length)
        {
            int room = Math.Min(Math.Min(_queue.Room, gathered.Length), tags.Length - issued);
            int count = 0;
            for (; count < room; count++)
            {
                ref IoRequest request = ref requests[tags[issued + count]];
                long length = request.Iter.Count;
                long offset = request.Iter.Offset;
                long fileOffset = request.FileOffset;
                long bits = (offset & dmaMask) | ((fileOffset | length) & blockMask);
                if (bits != 0 || (ulong)(length - 1) >= (ulong)largest || fileOffset < 0 || fileOffset > capacity - length
                    || !bios.TryAllocate(operation, map, offset, length, fileOffset >> 9, out BioHandle bio, request.BioOwner, request.Tag))
                    break;
                gathered[count] = bio;
                request.Pending = 1;
            }

            if (count == 0)
                break;
            int taken = Submit(gathered.AsSpan(0, count));
            if (taken != count)
                GiveBack(requests, tags[(issued + taken)..(issued + count)], gathered.AsSpan(taken, count - taken));
            issued += taken;
            if (taken != count)
                break;
        }

        return issued;
    }

    [Diagnostics.HotPath]
    public override Errno Fsync(ref IoRequest request)
    {
        if (!_bios.TryAllocateFlush(out BioHandle bio, request.BioOwner, request.Tag))
            return Errno.EAGAIN;
        return Submit(bio, ref request);
    }

    [Diagnostics.HotPath]
    public override void Commit() => _queue.Commit();

    [Diagnostics.HotPath]
    public override int Poll(int max) => _queue.Poll(max);

    public override bool TryEnableInterrupts(Action handler) => _queue.TryEnableInterrupts(handler);

    public override void Dispose() => _queue.Dispose();

    [Diagnostics.HotPath]
    private Errno Issue(BioOperation operation, ref IoRequest request, ref IovIter iter)
    {
        DmaMap? map = iter.Map;
        long largest = map is null ? _limits.MaxBytes : _limits.MaxBytesFor(map.SmallestSegment);
        bool issued = false;
        while (iter.Count > 0)
        {
            // One bio per contiguous range (I6), split where the device's limits ask for it (B3); lengths are 64 bits until here (B4).
            (long offset, long length) = DirectIo.Piece(iter);
            length = Math.Min(length, largest);
            long sector = request.FileOffset >> 9;
            BioHandle bio;
            bool taken = map is null
                ? _bios.TryAllocate(operation, new MemoryRange(iter.CurrentMemory.Region, offset, length), sector, out bio, request.BioOwner, request.Tag)
                : _bios.TryAllocate(operation, map, offset, length, sector, out bio, request.BioOwner, request.Tag);
            Errno status = taken ? Submit(bio, ref request) : Errno.EAGAIN;
            if (status != Errno.Ok)
                return issued && status == Errno.EAGAIN ? Errno.Ok : status;
            issued = true;
            iter.Advance(length);
            request.FileOffset += length;
        }

        return Errno.Ok;
    }

    [Diagnostics.HotPath]
    private Errno Submit(BioHandle bio, ref IoRequest request)
    {
        if (Submit(new ReadOnlySpan<BioHandle>(in bio)) == 1)
        {
            request.Pending++;
            return Errno.Ok;
        }

        _bios.Release(bio);
        return Errno.EAGAIN;
    }

    // A device that has promised more room than it has: what it did not take has not begun.
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void GiveBack(Span<IoRequest> requests, ReadOnlySpan<int> tags, ReadOnlySpan<BioHandle> bios)
    {
        foreach (int tag in tags)
            requests[tag].Pending = 0;
        foreach (BioHandle bio in bios)
            _bios.Release(bio);
    }

    [Diagnostics.HotPath]
    private int Submit(ReadOnlySpan<BioHandle> bios) => _queue.SubmitOrFail(_bios, bios, _file.Name);
}
