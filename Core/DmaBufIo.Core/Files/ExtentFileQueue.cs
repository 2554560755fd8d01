using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Files;

/// <summary>A piece of a file that lies together on one of its devices.</summary>
/// <param name="Device">Which of the file's devices, from 0.</param>
/// <param name="Start">First byte on the device, a multiple of its logical block.</param>
/// <param name="Length">Bytes, a multiple of the logical block.</param>
public readonly record struct FileExtent(int Device, long Start, long Length);

/// <summary>
/// The read and write operations of a file whose bytes lie in extents on block devices: checks, translates offsets, splits where extents and the devices' limits end, fills bios. Attaches
/// nothing: requests carry the map of the one device, or the composite map over all of them.
/// </summary>
public sealed class ExtentFileQueue : FileQueue
{
    private readonly IoFile _file;
    private readonly BioPool _bios;
    private readonly BlockQueue[] _queues;
    private readonly FileExtent[] _extents;
    private readonly long[] _ends; // of each extent, in the file
    private readonly QueueLimits _limits;
    private readonly List<(int Queue, BioHandle Bio)> _flushes = []; // of flushes that have begun

    /// <summary>Opens the queue.</summary>
    /// <param name="file">The file.</param>
    /// <param name="bios">The context's bios.</param>
    /// <param name="queues">Queues of the file's devices, in order; the queue's own from now on.</param>
    /// <param name="limits">The devices' limits, stacked.</param>
    /// <param name="extents">Where the file's bytes lie, in order; fixed for the life of the queue.</param>
    public ExtentFileQueue(IoFile file, BioPool bios, IReadOnlyList<BlockQueue> queues, QueueLimits limits, IReadOnlyList<FileExtent> extents)
    {
        _file = file;
        _bios = bios;
        _queues = [.. queues];
        _limits = limits;
        _extents = [.. extents];
        _ends = new long[_extents.Length];
        for (int i = 0; i < _ends.Length; i++)
            _ends[i] = (i == 0 ? 0 : _ends[i - 1]) + _extents[i].Length;
    }

    private long End => _ends.Length == 0 ? 0 : _ends[^1];

    /// <inheritdoc/>
    [HotPath]
    public override Errno ReadIter(ref IoRequest request, ref IovIter iter)
    {
        Errno status = DirectIo.Check(request, iter, _file.Flags, _limits.DmaAlignment - 1, _limits.LogicalBlockSize - 1);
        if (status != Errno.Ok)
            return status;

        // As on a device: a read that crosses the end is short.
        if (iter.Count > End - request.FileOffset)
            iter.Truncate(End - request.FileOffset);
        return Issue(BioOperation.Read, ref request, ref iter);
    }

    /// <inheritdoc/>
    [HotPath]
    public override Errno WriteIter(ref IoRequest request, ref IovIter iter)
    {
        Errno status = DirectIo.Check(request, iter, _file.Flags, _limits.DmaAlignment - 1, _limits.LogicalBlockSize - 1);
        if (status != Errno.Ok)
            return status;
        if ((_file.Flags & OpenFlags.ReadOnly) != 0)
            return Errno.EBADF;
        if (request.FileOffset >= End)
            return Errno.ENOSPC; // extents are allocated when the file is made
        if (iter.Count > End - request.FileOffset)
            iter.Truncate(End - request.FileOffset);
        return Issue(BioOperation.Write, ref request, ref iter);
    }

    /// <inheritdoc/>
    [HotPath]
    public override Errno Fsync(ref IoRequest request)
    {
        if (_bios.Free < _queues.Length)
            return Errno.EAGAIN;
        for (int i = 0; i < _queues.Length; i++)
        {
            _bios.TryAllocateFlush(out BioHandle bio, request.BioOwner, request.Tag);
            if (request.Pending == 0)
            {
                if (!TrySubmit(_queues[i], bio, ref request))
                    return Errno.EAGAIN;
            }
            else
            {
                // The flush has begun (T16): those that have no room now wait here.
                request.Pending++;
                _flushes.Add((i, bio));
            }
        }

        PushFlushes();
        return Errno.Ok;
    }

    /// <inheritdoc/>
    [HotPath]
    public override void Commit()
    {
        foreach (BlockQueue queue in _queues)
            queue.Commit();
    }

    /// <inheritdoc/>
    [HotPath]
    public override int Poll(int max)
    {
        int count = 0;
        foreach (BlockQueue queue in _queues)
            count += queue.Poll(max);
        if (_flushes.Count != 0)
        {
            PushFlushes();
            Commit();
        }

        return count;
    }

    /// <inheritdoc/>
    public override bool TryEnableInterrupts(Action handler) => Array.TrueForAll(_queues, q => q.TryEnableInterrupts(handler));

    /// <inheritdoc/>
    public override void Dispose()
    {
        foreach (BlockQueue queue in _queues)
            queue.Dispose();
    }

    [HotPath]
    private Errno Issue(BioOperation operation, ref IoRequest request, ref IovIter iter)
    {
        DmaMap? map = iter.Map;

        // On one device the map is the device's, whatever it stands on.
        CompositeMap? composite = _queues.Length == 1 ? null : map as CompositeMap;
        long largest = map is null ? _limits.MaxBytes : _limits.MaxBytesFor(map.SmallestSegment);
        bool issued = false;
        while (iter.Count > 0)
        {
            (long offset, long length) = DirectIo.Piece(iter);
            int extent = Find(request.FileOffset);
            FileExtent place = _extents[extent];
            long within = request.FileOffset - (_ends[extent] - place.Length);
            length = Math.Min(Math.Min(length, largest), place.Length - within);
            long sector = (place.Start + within) >> 9;
            BioHandle bio;
            bool taken = map is null
                ? _bios.TryAllocate(operation, new MemoryRange(iter.CurrentMemory.Region, offset, length), sector, out bio, request.BioOwner, request.Tag)
                : _bios.TryAllocate(operation, composite is null ? map : composite[place.Device]!, offset, length, sector, out bio, request.BioOwner, request.Tag);
            if (!taken || !TrySubmit(_queues[place.Device], bio, ref request))
                return issued ? Errno.Ok : Errno.EAGAIN;
            issued = true;
            iter.Advance(length);
            request.FileOffset += length;
        }

        return Errno.Ok;
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void PushFlushes()
    {
        for (int i = _flushes.Count - 1; i >= 0; i--)
        {
            (int queue, BioHandle bio) = _flushes[i];
            if (_queues[queue].SubmitOrFail(_bios, new ReadOnlySpan<BioHandle>(in bio), _file.Name) == 1)
                _flushes.RemoveAt(i);
        }
    }

    // Files have few extents; a search by halves all the same, for one may have many.
    [HotPath]
    private int Find(long offset)
    {
        int low = 0;
        int high = _ends.Length - 1;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (offset < _ends[middle])
                high = middle;
            else
                low = middle + 1;
        }

        return low;
    }

    [HotPath]
    private bool TrySubmit(BlockQueue queue, BioHandle bio, ref IoRequest request)
    {
        if (queue.SubmitOrFail(_bios, new ReadOnlySpan<BioHandle>(in bio), _file.Name) == 1)
        {
            request.Pending++;
            return true;
        }

        _bios.Release(bio);
        return false;
    }
}
