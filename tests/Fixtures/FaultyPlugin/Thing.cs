using System.Runtime.CompilerServices;
using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Fixtures.FaultyPlugin;

/// <summary>A disk, and callbacks of it that throw.</summary>
internal sealed class Thing(RamDisk.Disk disk) : BlockDevice, IDisposable
{
    public override string Name => disk.Name;

    public override long Capacity => disk.Capacity;

    public override QueueLimits Limits => disk.Limits;

    public override bool IsRemoved => disk.IsRemoved;

    public override string Description => disk.Description;

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth)
    {
        BlockQueue queue = disk.OpenQueue(context, bios, depth);
        return ThingPlugin.Has("submit-throws") ? new ThrowingQueue(queue) : queue;
    }

    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) =>
        ThingPlugin.Has("release-throws") ? new ThrowingDriver(buffer, direction, disk) : disk.CreateToken(buffer, direction);

    public void Dispose() => disk.Dispose();

    private sealed class ThrowingQueue(BlockQueue queue) : BlockQueue
    {
        public override int Submit(ReadOnlySpan<BioHandle> bios) => throw new InvalidOperationException("the queue is broken");

        public override void Commit() => queue.Commit();

        public override int Poll(int max) => queue.Poll(max);

        public override void Dispose() => queue.Dispose();
    }

    private sealed class ThrowingDriver(DmaBuf buffer, DmaDirection direction, RamDisk.Disk disk) : RangeTokenDriver(buffer, direction, DeviceOf(disk))
    {
        // The sample needs no such property.
        [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_device")]
        private static extern ref DmaDevice DeviceOf(RamDisk.Disk disk);

        public override void Release() => throw new InvalidOperationException("the release is broken");
    }
}
