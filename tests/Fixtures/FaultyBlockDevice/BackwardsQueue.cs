using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Io;

namespace DmaBufIo.Fixtures.FaultyBlockDevice;

/// <summary>A queue that the disk's thread works at, whoever looks: of what was committed it does the last bio first. A place is free again when its bio was moved, not when it was polled.</summary>
internal sealed class BackwardsQueue(FaultyDisk disk, IoContext context, BioPool bios, int depth) : BlockQueue
{
    private readonly Lock _lock = new();
    private readonly Stack<Taken> _rung = new();
    private readonly List<Taken> _taken = [];
    private readonly Queue<(BioHandle Bio, Errno Status)> _done = new();
    private int _waiting; // taken and not moved
    private Action? _handler;

    public override int Room => Math.Max(0, depth - Volatile.Read(ref _waiting));

    public override int Submit(ReadOnlySpan<BioHandle> handles)
    {
        int count = Math.Min(handles.Length, Room);
        foreach (BioHandle bio in handles[..count])
            _taken.Add(new Taken(bio, bios[bio], bios.BackingOf(bio)));
        Interlocked.Add(ref _waiting, count);
        return count;
    }

    public override void Commit()
    {
        if (_taken.Count == 0)
            return;
        lock (_lock)
        {
            foreach (Taken taken in _taken)
                _rung.Push(taken);
        }

        _taken.Clear();
        disk.Ring(Work);
    }

    public override int Poll(int max)
    {
        lock (_lock)
        {
            int count = Math.Min(max, _done.Count);
            for (int i = 0; i < count; i++)
            {
                (BioHandle bio, Errno status) = _done.Dequeue();
                bios.End(bio, status);
            }

            return count;
        }
    }

    public override bool TryEnableInterrupts(Action handler)
    {
        _handler = handler;
        return true;
    }

    public override void Dispose() => disk.Forget(context);

    private void Work()
    {
        while (TryTakeLast(out Taken last))
        {
            bool isEarly = disk.Fault.Is("ends-before-it-moves");
            if (isEarly)
                Done(last.Handle, Errno.Ok);
            Errno status = disk.Move(last.Bio, last.Backing);
            if (!isEarly)
                Done(last.Handle, status);
        }
    }

    private bool TryTakeLast(out Taken last)
    {
        lock (_lock)
            return _rung.TryPop(out last);
    }

    private void Done(BioHandle bio, Errno status)
    {
        lock (_lock)
            _done.Enqueue((bio, status));
        Interlocked.Decrement(ref _waiting);
        _handler?.Invoke();
    }

    private readonly record struct Taken(BioHandle Handle, Bio Bio, object? Backing);
}
