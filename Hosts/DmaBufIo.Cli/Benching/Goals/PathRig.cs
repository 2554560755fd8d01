using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Rings;

namespace DmaBufIo.Cli.Benching.Goals;

/// <summary>A ring on a device with registered buffers, and the tightest loops over it that an application would write.</summary>
internal sealed class PathRig : IDisposable
{
    internal const int Depth = 32;
    private readonly BlockDeviceFile _file;
    private readonly Ring _ring;
    private readonly RingCompletion[] _completions = new RingCompletion[Depth];
    private readonly ValueTask<IoStatus>[] _pending = new ValueTask<IoStatus>[Depth];
    private readonly long _deviceSize;
    private long _position;

    /// <summary>Opens the file and registers the buffers in slots from 0.</summary>
    /// <param name="device">The device.</param>
    /// <param name="buffers">The buffers; stay the caller's.</param>
    internal PathRig(OpenedDevice device, params DmaBuf[] buffers)
    {
        _file = new BlockDeviceFile(device.BlockDevice, OpenFlags.Direct | OpenFlags.ReadOnly);
        _deviceSize = _file.Size;
        _ring = new Ring(new RingOptions { Name = "goal", Entries = 2 * Depth, BufferSlots = buffers.Length });
        for (int slot = 0; slot < buffers.Length; slot++)
            _ring.RegisterBuffer(slot, new BufferRegistration { Buffer = buffers[slot], File = _file, Direction = DmaDirection.FromDevice });
    }

    internal Ring Ring => _ring;

    internal BlockDeviceFile File => _file;

    /// <summary>Batches of <see cref="Depth"/> requests, each reaped before the next is submitted.</summary>
    /// <param name="batches">How many.</param>
    /// <param name="block">Bytes of a request, a power of two.</param>
    /// <param name="start">First byte of the part of the buffer that is used.</param>
    /// <param name="length">Bytes of that part, a power of two.</param>
    /// <param name="slots">Slots in turn: a power of two, from 0.</param>
    internal void Run(long batches, int block = 4096, long start = 0, long length = 16 << 20, int slots = 1)
    {
        long position = (_position + block - 1) & -block; // requests lie on multiples of their length
        long mask = length - 1;
        long deviceMask = (1L << (int)long.Log2(_deviceSize)) - 1;
        int slotMask = slots - 1;
        for (long batch = 0; batch < batches; batch++)
        {
            for (int i = 0; i < Depth; i++)
            {
                _ring.TryReadFixed(_file, (int)(batch & slotMask), start + (position & mask), block, position & deviceMask, (ulong)i);
                position += block;
            }

            _ring.Submit();
            for (int left = Depth; left > 0;)
            {
                int count = _ring.Reap(_completions);
                foreach (ref readonly RingCompletion completion in _completions.AsSpan(0, count))
                {
                    if (completion.Status != Errno.Ok || completion.Bytes != block)
                        throw Failed(completion);
                }

                left -= count;
            }
        }

        _position = position;
    }

    /// <summary>The same, awaited.</summary>
    /// <param name="batches">How many.</param>
    internal void RunAwaited(long batches)
    {
#pragma warning disable CA2012 // each is consumed once, when it has completed: a state machine per request would be what is measured
        ValueTask<IoStatus>[] pending = _pending;
        for (long batch = 0; batch < batches; batch++)
        {
            for (int i = 0; i < Depth; i++)
                pending[i] = _ring.ReadFixedAsync(_file, 0, (long)i << 12, 4096, (long)i << 12);
            _ring.Drive(Depth);
            for (int i = 0; i < Depth; i++)
            {
                IoStatus status = pending[i].GetAwaiter().GetResult();
#pragma warning restore CA2012
                if (status.Status != Errno.Ok || status.Bytes != 4096)
                    throw Failed(new RingCompletion(0, status.Status, status.Bytes));
            }
        }
    }

    /// <summary>Ends what is in flight and closes.</summary>
    public void Dispose()
    {
        Tokens.DmaBufToken[] tokens = [.. Enumerable.Range(0, int.MaxValue).Select(_ring.TokenAt).TakeWhile(static t => t is not null)!];
        _ring.Dispose();
        foreach (Tokens.DmaBufToken token in tokens)
            token.WaitReleased();
        _file.Put();
    }

    private DmaBufIoException Failed(in RingCompletion completion) => new(
        completion.Status == Errno.Ok ? Errno.EIO : completion.Status, "bench", _file.Name, $"a read ended with {completion.Status} and {completion.Bytes} bytes",
        "Report this as a defect");
}
