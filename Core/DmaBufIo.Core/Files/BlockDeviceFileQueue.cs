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

    public override Errno ReadIter(ref IoRequest request, ref IovIter iter)
    {
        Errno status = Check(request, iter);
        if (status != Errno.Ok)
            return status;

        // A read that crosses the end is short, one at or beyond the end reads nothing.
        long left = _capacity - request.FileOffset;
        if (iter.Count > left)
            iter.Truncate(left);
        return iter.Count == 0 ? Errno.Ok : Issue(BioOperation.Read, ref request, ref iter);
    }

    public override Errno WriteIter(ref IoRequest request, ref IovIter iter)
    {
        Errno status = Check(request, iter);
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

    public override Errno Fsync(ref IoRequest request)
    {
        if (!_bios.TryAllocateFlush(out BioHandle bio))
            return Errno.EAGAIN;
        return Submit(bio, ref request);
    }

    public override void Commit() => _queue.Commit();

    public override int Poll(int max) => _queue.Poll(max);

    public override bool TryEnableInterrupts(Action handler) => _queue.TryEnableInterrupts(handler);

    public override void Dispose() => _queue.Dispose();

    private Errno Check(in IoRequest request, in IovIter iter)
    {
        // Looked at again for every request: the flag may have been cleared since the buffer was registered (B5).
        if ((_file.Flags & OpenFlags.Direct) == 0)
            return Errno.EINVAL;
        if (iter.IsAny(IovKind.DmaBufMap))
        {
            // The common kind: memory offset dword aligned, file offset and length whole blocks (R2, B3).
            return ((iter.Offset & _dmaMask) | ((request.FileOffset | iter.Count) & _blockMask)) == 0 && request.FileOffset >= 0
                ? Errno.Ok
                : Errno.EINVAL;
        }

        if (!iter.IsAny(IovKind.DmaBufMapVec | IovKind.BioVec))
            return Errno.EOPNOTSUPP;
        if (request.FileOffset < 0 || ((request.FileOffset | iter.Count) & _blockMask) != 0)
            return Errno.EINVAL;

        // One bio per range: each is a transfer of its own, so each is whole blocks and dword aligned.
        IovIter walk = iter;
        while (walk.Count > 0)
        {
            (long offset, long length) = Piece(walk);
            if ((offset & _dmaMask) != 0 || (length & _blockMask) != 0)
                return Errno.EINVAL;
            walk.Advance(length);
        }

        return Errno.Ok;
    }

    private Errno Issue(BioOperation operation, ref IoRequest request, ref IovIter iter)
    {
        DmaMap? map = iter.Map;
        long largest = map is null ? _limits.MaxBytes : _limits.MaxBytesFor(map.SmallestSegment);
        bool issued = false;
        while (iter.Count > 0)
        {
            // One bio per contiguous range (I6), split where the device's limits ask for it (B3); lengths are 64 bits until here (B4).
            (long offset, long length) = Piece(iter);
            length = Math.Min(length, largest);
            long sector = request.FileOffset >> 9;
            BioHandle bio;
            bool taken = map is null
                ? _bios.TryAllocate(operation, new MemoryRange(iter.CurrentMemory.Region, offset, length), sector, out bio)
                : _bios.TryAllocate(operation, map, offset, length, sector, out bio);
            Errno status = taken ? Submit(bio, ref request) : Errno.EAGAIN;
            if (status != Errno.Ok)
                return issued && status == Errno.EAGAIN ? Errno.Ok : status;
            issued = true;
            iter.Advance(length);
            request.FileOffset += length;
        }

        return Errno.Ok;
    }

    private Errno Submit(BioHandle bio, ref IoRequest request)
    {
        ref Bio data = ref _bios[bio];
        data.Owner = request.BioOwner;
        data.Cookie = request.Tag;
        if (_queue.Submit(new ReadOnlySpan<BioHandle>(in bio)) == 1)
        {
            request.Pending++;
            return Errno.Ok;
        }

        _bios.Release(bio);
        return Errno.EAGAIN;
    }

    private static (long Offset, long Length) Piece(in IovIter iter)
    {
        if (iter.IsAny(IovKind.BioVec))
        {
            MemoryRange memory = iter.CurrentMemory;
            return (memory.Offset, memory.Length);
        }

        BufferRange range = iter.CurrentRange;
        return (range.Offset, range.Length);
    }
}
