using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Io;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Block;

/// <summary>One bio as the device saw it.</summary>
internal sealed record SeenBio(Bio Bio, DmaMap? Map, MemoryRegion? Region);

/// <summary>A device that notes bios and completes them when polled. Moves nothing; as large as it is said to be.</summary>
internal sealed class LoggedDevice(QueueLimits limits, long capacity = 1L << 40) : BlockDevice
{
    public override string Name => "logged0";

    public override long Capacity => capacity;

    public override QueueLimits Limits { get; } = limits;

    public override bool IsReadOnly => WriteProtected;

    public override bool IsRemoved => false;

    public override string Description => "notes what it is given";

    internal bool WriteProtected { get; set; }

    internal List<SeenBio> Seen { get; } = [];

    /// <summary>Bios it takes before it has no room.</summary>
    internal int Room { get; set; } = int.MaxValue;

    /// <summary>Room it promises, whatever it has.</summary>
    internal int Promises { get; set; }

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth) => new Queue(this, bios);

    private sealed class Queue(LoggedDevice device, BioPool bios) : BlockQueue
    {
        private readonly Queue<BioHandle> _taken = new();

        public override int Room => device.Promises;

        public override int Submit(ReadOnlySpan<BioHandle> handles)
        {
            int count = 0;
            foreach (BioHandle handle in handles)
            {
                if (_taken.Count >= device.Room)
                    return count;
                device.Seen.Add(new SeenBio(bios[handle], bios.MapOf(handle), bios.RegionOf(handle)));
                _taken.Enqueue(handle);
                count++;
            }

            return count;
        }

        public override void Commit()
        {
        }

        public override int Poll(int max)
        {
            int count = 0;
            for (; count < max && _taken.TryDequeue(out BioHandle bio); count++)
                bios.End(bio, Errno.Ok);
            return count;
        }

        public override void Dispose() => Assert.Empty(_taken);
    }
}

/// <summary>A file over a <see cref="LoggedDevice"/> with a pool of bios, without a ring: the file's operations alone.</summary>
internal sealed class FileBench : IBioOwner, IDisposable
{
    private readonly IoContext _context = new("file bench");
    private readonly int _owner;
    private FileQueue? _queue;

    internal FileBench(QueueLimits limits, long capacity = 1L << 40, int bios = 64, OpenFlags flags = OpenFlags.Direct)
    {
        Device = new LoggedDevice(limits, capacity);
        File = new BlockDeviceFile(Device, flags);
        Bios = new BioPool(bios);
        _owner = Bios.AddOwner(this);
    }

    internal LoggedDevice Device { get; }

    internal BlockDeviceFile File { get; }

    internal BioPool Bios { get; }

    internal FileQueue Queue => _queue ??= File.OpenQueue(_context, Bios, 64);

    internal int Ended { get; private set; }

    internal IoRequest Request(long fileOffset) => new() { FileOffset = fileOffset, Tag = 7, BioOwner = _owner };

    internal int Complete()
    {
        Queue.Commit();
        Queue.Poll(int.MaxValue);
        return Bios.Dispatch();
    }

    public void BioEnded(BioHandle bio)
    {
        Ended++;
        Bios.Release(bio);
    }

    public void Dispose()
    {
        Complete();
        Assert.Equal(Bios.Capacity, Bios.Free);
        Queue.Dispose();
        Bios.Dispose();
        _context.Dispose();
    }
}
