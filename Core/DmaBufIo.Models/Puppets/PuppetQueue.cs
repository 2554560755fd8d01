using DmaBufIo.Block;
using DmaBufIo.Errors;

namespace DmaBufIo.Models.Puppets;

/// <summary>A bio as the puppet device knows it: a copy, like the command in a submission queue.</summary>
internal readonly record struct PuppetCommand(BioHandle Handle, Bio Bio, object? Backing);

/// <summary>The puppet's queue: submitted bios wait for the doorbell, committed ones for the device, finished ones for the poll.</summary>
internal sealed class PuppetQueue(PuppetBlockDevice device, BioPool bios) : BlockQueue
{
    private readonly Lock _lock = new();
    private readonly Queue<PuppetCommand> _submitted = new();
    private readonly Queue<PuppetCommand> _held = new();
    private readonly Queue<(BioHandle Bio, Errno Status)> _finished = new();

    internal int HeldCount
    {
        get
        {
            lock (_lock)
                return _held.Count;
        }
    }

    public override int Submit(ReadOnlySpan<BioHandle> handles)
    {
        int taken = 0;
        foreach (BioHandle handle in handles)
        {
            Bio bio = bios[handle];
            device.OnSubmit?.Invoke(bio);
            lock (_lock)
            {
                if (_submitted.Count + _held.Count + _finished.Count >= device.QueueDepth)
                    return taken;
                _submitted.Enqueue(new PuppetCommand(handle, bio, bios.BackingOf(handle)));
            }

            taken++;
        }

        return taken;
    }

    public override void Commit()
    {
        lock (_lock)
        {
            while (_submitted.TryDequeue(out PuppetCommand command))
                _held.Enqueue(command);
        }

        if (!device.Hold)
            FinishHeld(int.MaxValue);
    }

    public override int Poll(int max)
    {
        device.OnPoll?.Invoke(HeldCount);
        int count = 0;
        while (count < max)
        {
            (BioHandle Bio, Errno Status) finished;
            lock (_lock)
            {
                if (!_finished.TryDequeue(out finished))
                    break;
            }

            bios.End(finished.Bio, finished.Status);
            count++;
        }

        return count;
    }

    public override void Dispose() => device.Close(this);

    internal int FinishHeld(int count)
    {
        int finished = 0;
        while (finished < count)
        {
            PuppetCommand command;
            lock (_lock)
            {
                if (!_held.TryDequeue(out command))
                    break;
            }

            Errno status = device.MoveData(command);
            lock (_lock)
                _finished.Enqueue((command.Handle, status));
            finished++;
        }

        return finished;
    }

    internal void CancelHeld(Errno status)
    {
        lock (_lock)
        {
            while (_held.TryDequeue(out PuppetCommand command))
                _finished.Enqueue((command.Handle, status));
        }
    }
}
