using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Io;

namespace DmaBufIo.Fixtures.FaultyFile;

/// <summary>Flushes one disk after the other, the last one first, as a file does whose disks must be safe in an order. One flush of the file at a time.</summary>
internal sealed class FlushesInTurn : IBioOwner, IDisposable
{
    private readonly BioPool _bios;
    private readonly BioPool _own = new(1);
    private readonly BlockQueue[] _queues;
    private readonly int _owner;
    private BioHandle? _whole;
    private Errno _status;
    private int _next;
    private bool _waits;
    private int _ended;

    internal FlushesInTurn(IoContext context, BioPool bios, IReadOnlyList<BlockDevice> disks)
    {
        _bios = bios;
        _owner = _own.AddOwner(this);
        _queues = [.. disks.Select(d => d.OpenQueue(context, _own, 1))];
    }

    /// <summary>Begins the flush of a request.</summary>
    internal Errno Begin(ref IoRequest request)
    {
        if (_whole is not null || !_bios.TryAllocateFlush(out BioHandle whole, request.BioOwner, request.Tag))
            return Errno.EAGAIN;
        request.Pending++;
        (_whole, _status, _next, _waits) = (whole, Errno.Ok, _queues.Length - 1, true);
        Push();
        return Errno.Ok;
    }

    internal void Commit()
    {
        foreach (BlockQueue queue in _queues)
            queue.Commit();
    }

    internal int Poll()
    {
        _ended = 0;
        if (_whole is null)
            return 0;
        foreach (BlockQueue queue in _queues)
            queue.Poll(1);
        _own.Dispatch();
        Push();
        Commit();
        return _ended;
    }

    public void BioEnded(BioHandle bio)
    {
        if (_status == Errno.Ok)
            _status = _own[bio].Status;
        _own.Release(bio);
        _waits = --_next >= 0;
        if (_waits)
            return;
        _bios.End(_whole!.Value, _status);
        _whole = null;
        _ended = 1;
    }

    public void Dispose()
    {
        foreach (BlockQueue queue in _queues)
            queue.Dispose();
        _own.Dispose();
    }

    private void Push()
    {
        if (!_waits || !_own.TryAllocateFlush(out BioHandle bio, _owner))
            return;
        if (_queues[_next].Submit(new ReadOnlySpan<BioHandle>(in bio)) == 1)
            _waits = false;
        else
            _own.Release(bio);
    }
}
