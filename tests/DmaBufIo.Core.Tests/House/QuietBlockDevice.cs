using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.House;

/// <summary>
/// A device that completes every bio at the next poll, moves nothing and allocates nothing: what is allocated over it is Core's.
/// </summary>
internal sealed class QuietBlockDevice(DmaDevice device, long capacity, QueueLimits limits) : BlockDevice
{
    public override string Name => "quiet0";

    public override long Capacity => capacity;

    public override QueueLimits Limits { get; } = limits;

    public override bool IsRemoved => device.IsRemoved;

    public override string Description => "completes at the next poll";

    internal long Bios { get; private set; }

    internal long Bytes { get; private set; }

    /// <summary>Bios a queue takes before it has no room.</summary>
    internal int Room { get; set; } = 1024;

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth) => new Queue(this, bios);

    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => new Driver(device, buffer, direction);

    private sealed class Queue(QuietBlockDevice device, BioPool bios) : BlockQueue
    {
        private readonly BioHandle[] _taken = new BioHandle[bios.Capacity];
        private int _count;
        private int _committed;

        public override int Submit(ReadOnlySpan<BioHandle> handles)
        {
            int taken = 0;
            foreach (BioHandle handle in handles)
            {
                if (_count >= device.Room)
                    break;
                device.Bios++;
                device.Bytes += bios[handle].Size;
                _taken[_count++] = handle;
                taken++;
            }

            return taken;
        }

        public override void Commit() => _committed = _count;

        public override int Poll(int max)
        {
            int count = Math.Min(max, _committed);
            for (int i = 0; i < count; i++)
                bios.End(_taken[i], Errno.Ok);
            _taken.AsSpan(count, _count - count).CopyTo(_taken);
            _count -= count;
            _committed -= count;
            return count;
        }

        public override void Dispose()
        {
        }
    }

    private sealed class Driver(DmaDevice device, DmaBuf buffer, DmaDirection direction) : TokenDriver(buffer, direction)
    {
        private DmaAttachment? _attachment;

        protected override void Setup() => _attachment = Attach(device);

        public override DmaMap Map(in HeldReservation held) => new QuietMap(_attachment!.Map(Direction, held));

        public override void Unmap(DmaMap map, in HeldReservation held) => _attachment!.Unmap(((QuietMap)map).Table, held);

        public override void Release()
        {
        }
    }

    private sealed class QuietMap(SgTable table) : DmaMap(table.Ranges.Sum(static r => r.Length), table.Ranges.Min(static r => r.Length))
    {
        internal SgTable Table { get; } = table;
    }
}
