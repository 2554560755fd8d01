using DmaBufIo.Block;
using DmaBufIo.Errors;

namespace DmaBufIo.Docs.Tests.Examples;

// <example>
internal sealed class ScratchQueue(ScratchDisk disk, BioPool bios, int depth) : BlockQueue
{
    // Between the context's owner and the device. Held for a moment, never across anything that waits.
    private readonly Lock _lock = new();
    private readonly Queue<(BioHandle Handle, Bio Bio, object? Backing)> _taken = new();
    private readonly Queue<(BioHandle Handle, Bio Bio, object? Backing)> _working = new();
    private readonly Queue<(BioHandle Handle, Errno Status)> _done = new();

    // Takes what there is room for, and answers how many: the others stay the caller's, who gives their map up and waits (T16).
    public override int Submit(ReadOnlySpan<BioHandle> handles)
    {
        lock (_lock)
        {
            int count = Math.Min(handles.Length, depth - _taken.Count - _working.Count - _done.Count);
            foreach (BioHandle handle in handles[..count])
                _taken.Enqueue((handle, bios[handle], bios.BackingOf(handle)));
            return count;
        }
    }

    // The doorbell: the device has them from here on. One that is gone takes none; it is asked under the lock that Cancel takes, so that none slips in behind.
    public override void Commit()
    {
        lock (_lock)
        {
            while (_taken.TryDequeue(out var command))
            {
                if (disk.IsRemoved)
                    _done.Enqueue((command.Handle, Errno.ENODEV));
                else
                    _working.Enqueue(command);
            }
        }
    }

    // Ends what the device has completed. Calls nobody, sleeps for nothing: whoever drains a map may be calling (T14).
    public override int Poll(int max)
    {
        int count = 0;
        lock (_lock)
        {
            for (; count < max && _done.TryDequeue(out var ended); count++)
                bios.End(ended.Handle, ended.Status);
        }

        return count;
    }

    // The device's side. Data, then CPU sync (BioTransfer does both), then the completion (T18). The map's reference is Core's to drop.
    internal void Work()
    {
        while (true)
        {
            (BioHandle Handle, Bio Bio, object? Backing) command;
            lock (_lock)
            {
                if (!_working.TryDequeue(out command))
                    return;
            }

            Errno status = disk.Move(command.Bio, command.Backing);
            lock (_lock)
                _done.Enqueue((command.Handle, status));
        }
    }

    // Reset and removal: each request ends once, with an error (N8).
    internal void Cancel(Errno status)
    {
        lock (_lock)
        {
            while (_working.TryDequeue(out var command))
                _done.Enqueue((command.Handle, status));
        }
    }

    public override void Dispose() => disk.Closed(this);
}
// </example>
