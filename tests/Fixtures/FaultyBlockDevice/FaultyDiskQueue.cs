using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Io;

namespace DmaBufIo.Fixtures.FaultyBlockDevice;

/// <summary>A circle of bios: taken, then moved when the doorbell rings, then ended when polled; sooner where the disk is of that kind.</summary>
internal sealed class FaultyDiskQueue(FaultyDisk disk, IoContext context, BioPool bios, int depth, DiskShape shape) : BlockQueue
{
    private readonly Slot[] _slots = new Slot[depth];
    private Action? _handler;
    private Action? _work;
    private long _ended;
    private long _moved;
    private long _rung;
    private long _taken;
    private int _leaked;

    public override int Room => disk.Fault.Is("promises-room") ? _slots.Length : Free;

    private int Free => (int)(_ended + _slots.Length - _taken) - _leaked;

    public override int Submit(ReadOnlySpan<BioHandle> handles)
    {
        int count = Math.Min(handles.Length, Free);
        BioHandle first = handles.Length > 0 ? handles[0] : default;
        foreach (BioHandle bio in handles[..count])
        {
            object? backing = bios.BackingOf(disk.Fault.Is("backing-of-the-first") && bios[bio].Operation != BioOperation.Flush ? first : bio);
            _slots[_taken++ % _slots.Length] = new Slot(bio, bios[bio], backing);
            if (disk.Fault.Is("ends-when-taken"))
                bios.End(bio, Errno.Ok);
        }

        if (shape.Ends == DiskEnds.Submit)
            WorkAndEnd();
        return count > 4 && disk.Fault.Is("takes-more-than-it-says") ? count - 1 : count;
    }

    public override void Commit()
    {
        if (shape.Ends != DiskEnds.Poll)
            WorkAndEnd();
        if (_rung == _taken)
            return;
        RingDoorbell();
        if (_handler is null)
            Work();
        else
            disk.Ring(_work!);
    }

    public override int Poll(int max)
    {
        long moved = Volatile.Read(ref _moved);
        int count = (int)(disk.Fault.Is("ends-more-than-told") ? moved - _ended : Math.Min(max, moved - _ended));
        for (int i = 0; i < count; i++, _ended++)
        {
            ref Slot slot = ref _slots[_ended % _slots.Length];
            if (disk.Fault.Is("ends-when-taken") || IsHit(slot.Status, "forgets-at-removal", "forgets-at-reset"))
                continue;
            bios.End(slot.Handle, slot.Status);
            if (IsHit(slot.Status, "ends-twice-at-removal", "ends-twice-at-reset"))
                bios.End(slot.Handle, slot.Status);
            if (slot.Status != Errno.Ok && _leaked < _slots.Length - 4 && disk.Fault.Is("leaks-room"))
                _leaked++;
        }

        return count;
    }

    public override bool TryEnableInterrupts(Action handler)
    {
        _handler = handler;
        _work = Work;
        return true;
    }

    public override void Dispose() => disk.Forget(context);

    // Moves what was rung for: on the owner's thread, or on the disk's.
    private void Work()
    {
        long rung = Volatile.Read(ref _rung);
        bool isFirst = true;
        while (_moved < rung)
        {
            if (disk.Fault.Is("calls-before"))
                _handler?.Invoke();
            int gathered = shape.Gathers ? Gathered(rung) : 1;
            ref Slot slot = ref _slots[_moved % _slots.Length];
            Bio whole = slot.Bio;
            for (int i = 1; i < gathered; i++)
                whole.Size += _slots[(_moved + i) % _slots.Length].Bio.Size;
            Errno status = slot.Resets != disk.Resets ? Errno.ECANCELED : disk.Move(whole, slot.Backing);
            for (int i = 0; i < gathered; i++)
                _slots[(_moved + i) % _slots.Length].Status = status;
            Volatile.Write(ref _moved, _moved + gathered);
            if (!disk.Fault.Is("calls-before") && (isFirst || !disk.Fault.Is("calls-once-per-batch")) && (status != Errno.ECANCELED || !disk.Fault.Is("resets-in-silence")))
                _handler?.Invoke();
            isFirst = false;
        }
    }

    // Of those that are rung for, from the first that was not moved on: neighbours on the disk and in memory, within the limits.
    private int Gathered(long rung)
    {
        ref Slot first = ref _slots[_moved % _slots.Length];
        long size = first.Bio.Size;
        int count = 1;
        for (; _moved + count < rung; count++)
        {
            ref Slot next = ref _slots[(_moved + count) % _slots.Length];
            if (next.Resets != first.Resets || next.Bio.Operation != first.Bio.Operation || first.Bio.Operation == BioOperation.Flush || !ReferenceEquals(next.Backing, first.Backing)
                || next.Bio.Sector != first.Bio.Sector + (size >> 9) || next.Bio.Offset != first.Bio.Offset + size || size + next.Bio.Size > shape.Limits.MaxBytes)
                break;
            size += next.Bio.Size;
        }

        return count;
    }

    private bool IsHit(Errno status, string atRemoval, string atReset) =>
        (status == Errno.ENODEV && disk.Fault.Is(atRemoval)) || (status == Errno.ECANCELED && disk.Fault.Is(atReset));

    // What is rung for now is not of before the last reset.
    private void RingDoorbell()
    {
        int resets = disk.Resets;
        for (long i = _rung; i < _taken; i++)
            _slots[i % _slots.Length].Resets = resets;
        Volatile.Write(ref _rung, _taken);
    }

    private void WorkAndEnd()
    {
        RingDoorbell();
        Work();
        Poll(int.MaxValue);
    }

    private struct Slot(BioHandle handle, Bio bio, object? backing)
    {
        internal readonly BioHandle Handle = handle;
        internal readonly Bio Bio = bio;
        internal readonly object? Backing = backing;
        internal int Resets;
        internal Errno Status;
    }
}
