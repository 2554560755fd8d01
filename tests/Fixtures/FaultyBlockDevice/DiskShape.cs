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
    internal static readonly string[] Options = ["ro", "lba", "max", "segments", "align", "depth", "ends", "slow"];

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

    private static DiskEnds EndsOf(DeviceExpression expression) =>
        !expression.Options.TryGetValue("ends", out DeviceOption option) ? DiskEnds.Poll
        : Enum.TryParse(option.Value, ignoreCase: true, out DiskEnds ends) ? ends
        : throw expression.Broken(option.Position, $"'{option.Value}' is no moment at which bios end", "Write poll, submit, commit or backwards");
}
