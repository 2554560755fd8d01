using System.Collections.Concurrent;
using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

/// <summary>
/// A device that completes what it is told to complete, when it is told, and interrupts then. Tokens are those of the device below.
/// </summary>
internal sealed class InterruptingDevice(BlockDevice below) : BlockDevice
{
    private readonly ConcurrentQueue<BioHandle> _committed = new();
    private readonly ConcurrentQueue<BioHandle> _posted = new();
    private Action? _handler;
    private volatile bool _letGo;

    public override string Name => "interrupting0";

    public override long Capacity => below.Capacity;

    public override QueueLimits Limits => below.Limits;

    public override bool IsRemoved => below.IsRemoved;

    public override string Description => "completes and interrupts on command";

    /// <summary>Bios that the ring has given to it and that were not completed.</summary>
    internal int Committed => _committed.Count;

    /// <summary>Looks so far.</summary>
    internal int Polls;

    /// <summary>
    /// Runs at the end of each look, when it is known what the look has found: how many looks there were, how much this one found.
    /// </summary>
    internal Action<int, int>? Looked { get; set; }

    internal bool HasInterrupts { get; init; } = true;

    /// <summary>Completes the oldest bio.</summary>
    internal void Post()
    {
        Assert.True(_committed.TryDequeue(out BioHandle bio), "nothing to complete");
        _posted.Enqueue(bio);
    }

    internal void Interrupt() => _handler!();

    /// <summary>Completes everything from now on: a test that has failed can close its ring.</summary>
    internal void LetGo()
    {
        _letGo = true;
        _handler?.Invoke();
    }

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth) => new Queue(this, bios);

    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => below.CreateToken(buffer, direction);

    private sealed class Queue(InterruptingDevice device, BioPool bios) : BlockQueue
    {
        private readonly Queue<BioHandle> _taken = new();

        public override int Submit(ReadOnlySpan<BioHandle> handles)
        {
            foreach (BioHandle handle in handles)
                _taken.Enqueue(handle);
            return handles.Length;
        }

        public override void Commit()
        {
            while (_taken.TryDequeue(out BioHandle bio))
                device._committed.Enqueue(bio);
        }

        public override int Poll(int max)
        {
            int count = 0;
            while (count < max && device._posted.TryDequeue(out BioHandle bio))
            {
                bios.End(bio, Errno.Ok);
                count++;
            }

            for (; device._letGo && device._committed.TryDequeue(out BioHandle bio); count++)
                bios.End(bio, Errno.Ok);
            device.Looked?.Invoke(++device.Polls, count);
            return count;
        }

        public override bool TryEnableInterrupts(Action handler)
        {
            device._handler = handler;
            return device.HasInterrupts;
        }

        public override void Dispose()
        {
        }
    }
}
