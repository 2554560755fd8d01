using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Io;

namespace RamDisk;

/// <summary>A circle of bios: taken, then moved when the doorbell rings, then ended when polled.</summary>
internal sealed class DiskQueue(Disk disk, IoContext context, BioPool bios, int depth) : BlockQueue
{
    private readonly (BioHandle Bio, Errno Status)[] _slots = new (BioHandle, Errno)[depth];
    private long _taken;
    private long _moved;
    private long _ended;

    public override int Room => (int)(_ended + _slots.Length - _taken);

    public override int Submit(ReadOnlySpan<BioHandle> handles)
    {
        int count = Math.Min(handles.Length, Room);
        foreach (BioHandle bio in handles[..count])
            _slots[_taken++ % _slots.Length].Bio = bio;
        return count;
    }

    public override void Commit()
    {
        for (; _moved < _taken; _moved++)
        {
            ref (BioHandle Bio, Errno Status) slot = ref _slots[_moved % _slots.Length];
            slot.Status = disk.Move(bios[slot.Bio], bios.BackingOf(slot.Bio));
        }
    }

    public override int Poll(int max)
    {
        int count = (int)Math.Min(max, _moved - _ended);
        for (int i = 0; i < count; i++, _ended++)
            bios.End(_slots[_ended % _slots.Length].Bio, _slots[_ended % _slots.Length].Status);
        return count;
    }

    public override void Dispose() => disk.Contexts.Remove(context);
}
