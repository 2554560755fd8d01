using DmaBufIo.Block;
using DmaBufIo.Plugins;

namespace DmaBufIo.Fixtures.FaultyBlockDevice;

/// <summary>When a disk ends its bios. All are right.</summary>
internal enum DiskEnds
{
    /// <summary>When it is polled, in order.</summary>
    Poll,

    /// <summary>Inside Submit.</summary>
    Submit,

    /// <summary>Inside Commit.</summary>
    Commit,

    /// <summary>Later, on a thread of its own, the last bio first.</summary>
    Backwards,
}

/// <summary>What a disk is like: what it takes, how much of it, and when it ends it. None of it is a fault.</summary>
internal sealed class DiskShape(DeviceExpression expression)
{
    internal static readonly string[] Options = ["ro", "lba", "max", "segments", "align", "depth", "ends", "slow", "looks", "pool", "gathers", "queues"];

    internal bool IsReadOnly { get; } = expression.Switch("ro", false);

    internal QueueLimits Limits { get; } = new((int)expression.Size("lba", 512))
    {
        MaxBytes = (int)expression.Size("max", 1 << 20),
        MaxSegments = (int)expression.Size("segments", int.MaxValue),
        DmaAlignment = (int)expression.Size("align", 4),
    };

    /// <summary>Bios that a queue takes at the most.</summary>
    internal int Depth { get; } = (int)expression.Size("depth", int.MaxValue);

    internal DiskEnds Ends { get; } = EndsOf(expression);

    /// <summary>Milliseconds for each bio.</summary>
    internal int Slow { get; } = (int)expression.Size("slow", 0);

    /// <summary>Whether it maps a buffer when it is registered, with the lock held, to look at its pieces.</summary>
    internal bool Looks { get; } = expression.Switch("looks", false);

    /// <summary>Whether it makes a page of descriptors with the first map, and keeps it for all.</summary>
    internal bool HasPool { get; } = expression.Switch("pool", false);

    /// <summary>Whether neighbours on the disk and in memory go in one DMA.</summary>
    internal bool Gathers { get; } = expression.Switch("gathers", false);

    /// <summary>Queues that can be open at once.</summary>
    internal int Queues { get; } = (int)expression.Size("queues", int.MaxValue);

    private static DiskEnds EndsOf(DeviceExpression expression) =>
        !expression.Options.TryGetValue("ends", out DeviceOption option) ? DiskEnds.Poll
        : Enum.TryParse(option.Value, ignoreCase: true, out DiskEnds ends) ? ends
        : throw expression.Broken(option.Position, $"'{option.Value}' is no moment at which bios end", "Write poll, submit, commit or backwards");
}
