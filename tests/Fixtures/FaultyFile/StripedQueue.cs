using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Fixtures.FaultyFile;

/// <summary>The read and write operations: checks, translates, cuts at stripes and at what the disks take, fills bios.</summary>
internal sealed class StripedQueue(StripedFile file, BioPool bios, List<BlockQueue> queues, QueueLimits limits, bool isReadOnly, Fault fault, FlushesInTurn? inTurn) : FileQueue
{
    private readonly OpenFlags _flagsAtFirst = file.Flags;
    private readonly List<(int Queue, BioHandle Bio)> _flushes = [];

    public override Errno ReadIter(ref IoRequest request, ref IovIter iter)
    {
        Errno status = Check(request, ref iter);
        if (status != Errno.Ok)
            return status;
        if (!fault.Is("reads-past-its-end") && iter.Count > file.Size - request.FileOffset)
            iter.Truncate(file.Size - request.FileOffset);
        else if (request.FileOffset >= file.Size)
            iter.Truncate(0);
        return Issue(BioOperation.Read, ref request, ref iter);
    }

    public override Errno WriteIter(ref IoRequest request, ref IovIter iter)
    {
        Errno status = Check(request, ref iter);
        if (status != Errno.Ok)
            return status;
        if ((file.Flags & OpenFlags.ReadOnly) != 0 && !fault.Is("writes-what-is-read-only"))
            return Errno.EBADF;
        if (isReadOnly)
            return Errno.EROFS;
        if (request.FileOffset >= file.Size)
        {
            if (!fault.Is("finds-space-beyond-its-end"))
                return Errno.ENOSPC;
            iter.Truncate(0);
        }

        if (iter.Count > file.Size - request.FileOffset)
            iter.Truncate(file.Size - request.FileOffset);
        return Issue(BioOperation.Write, ref request, ref iter);
    }

    public override Errno Fsync(ref IoRequest request)
    {
        if (fault.Is("acknowledges-flushes-at-once"))
            return Errno.Ok;
        if (inTurn is not null)
            return inTurn.Begin(ref request);
        int count = fault.Is("flushes-the-first-disk-only") ? 1 : queues.Count;
        if (bios.Free < count)
            return Errno.EAGAIN;
        for (int i = 0; i < count; i++)
        {
            bios.TryAllocateFlush(out BioHandle bio, request.BioOwner, request.Tag);
            if (request.Pending == 0)
            {
                if (!TrySubmit(i, bio, ref request))
                    return Errno.EAGAIN;
            }
            else if (fault.Is("forgets-flushes-without-room"))
            {
                TrySubmit(i, bio, ref request);
            }
            else
            {
                // It has begun: those that have no room now wait here.
                request.Pending++;
                _flushes.Add((i, bio));
            }
        }

        PushFlushes();
        return Errno.Ok;
    }

    public override void Commit()
    {
        foreach (BlockQueue queue in queues)
            queue.Commit();
        inTurn?.Commit();
    }

    public override int Poll(int max)
    {
        int count = 0;
        foreach (BlockQueue queue in queues)
            count += queue.Poll(max);
        count += inTurn?.Poll() ?? 0;
        if (_flushes.Count != 0)
        {
            PushFlushes();
            Commit();
        }

        return count;
    }

    public override void Dispose()
    {
        foreach (BlockQueue queue in fault.Is("leaves-queues-open") ? queues.Take(1) : queues)
            queue.Dispose();
        inTurn?.Dispose();
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

    private Errno Check(in IoRequest request, ref IovIter iter)
    {
        OpenFlags flags = fault.Is("looks-at-direct-once") ? _flagsAtFirst : file.Flags;
        if ((flags & OpenFlags.Direct) == 0 && !fault.Is("never-looks-at-direct"))
            return Errno.EINVAL;
        if (!iter.IsAny(IovKind.DmaBufMap | IovKind.DmaBufMapVec | IovKind.BioVec))
            return Errno.EOPNOTSUPP;
        long blockMask = limits.LogicalBlockSize - 1;
        if (fault.Is("rounds-what-is-not-aligned"))
            iter.Truncate(iter.Count & ~blockMask);
        if (request.FileOffset < 0 || ((request.FileOffset | iter.Count) & blockMask) != 0)
            return Errno.EINVAL;

        // Each range is a transfer of its own.
        IovIter walk = iter;
        while (walk.Count > 0)
        {
            (long offset, long length) = Piece(walk);
            if ((offset & (limits.DmaAlignment - 1)) != 0 || (length & blockMask) != 0)
                return Errno.EINVAL;
            walk.Advance(length);
        }

        return Errno.Ok;
    }

    private Errno Issue(BioOperation operation, ref IoRequest request, ref IovIter iter)
    {
        DmaMap? map = iter.Map;
        CompositeMap? composite = queues.Count == 1 ? null : map as CompositeMap;
        long largest = map is null ? limits.MaxBytes : limits.MaxBytesFor(map.SmallestSegment);
        long firstOffset = iter.Count == 0 ? 0 : Piece(iter).Offset;
        long start = request.FileOffset;
        IovIter whole = iter;
        bool issued = false;
        while (iter.Count > 0)
        {
            (long offset, long length) = Piece(iter);
            (int disk, long place, long left) = StripedFile.Find(request.FileOffset, queues.Count);
            long wanted = Math.Min(length, left);
            length = Math.Min(wanted, largest);
            if (fault.Is("takes-ranges-as-one") && map is not null)
                offset = firstOffset + (request.FileOffset - start);
            DmaMap? member = composite is null || fault.Is("gives-disks-the-composite") ? map : composite[fault.Is("uses-the-first-disks-map") ? 0 : disk];
            BioHandle bio;
            bool taken = map is null
                ? bios.TryAllocate(operation, new MemoryRange(iter.CurrentMemory.Region, offset, length), place >> 9, out bio, request.BioOwner, request.Tag)
                : bios.TryAllocate(operation, member!, offset, length, place >> 9, out bio, request.BioOwner, request.Tag);
            if (!taken || !TrySubmit(disk, bio, ref request))
            {
                if (fault.Is("fails-when-it-is-full"))
                    return Errno.EBUSY;
                if (fault.Is("begins-again-when-it-is-full") && issued)
                {
                    iter = whole;
                    request.FileOffset = start;
                    return Errno.Ok;
                }

                if (!fault.Is("counts-what-was-not-taken") || !issued)
                    return issued ? Errno.Ok : Errno.EAGAIN;
            }

            issued = true;
            iter.Advance(fault.Is("advances-by-what-it-wanted") ? wanted : length);
            bool isNextRange = fault.Is("begins-each-range-at-the-start") && iter.IsAny(IovKind.DmaBufMapVec) && iter.Count > 0 && Piece(iter).Offset != offset + length;
            request.FileOffset = isNextRange ? start : fault.Is("forgets-its-place-in-the-file") ? start : request.FileOffset + (fault.Is("advances-by-what-it-wanted") ? wanted : length);
        }

        return Errno.Ok;
    }

    private void PushFlushes()
    {
        for (int i = _flushes.Count - 1; i >= 0; i--)
        {
            (int queue, BioHandle bio) = _flushes[i];
            if (queues[queue].SubmitOrFail(bios, new ReadOnlySpan<BioHandle>(in bio), file.Name) == 1)
                _flushes.RemoveAt(i);
        }
    }

    private bool TrySubmit(int queue, BioHandle bio, ref IoRequest request)
    {
        if (queues[queue].SubmitOrFail(bios, new ReadOnlySpan<BioHandle>(in bio), file.Name) == 1)
        {
            request.Pending++;
            return true;
        }

        bios.Release(bio);
        return false;
    }
}
