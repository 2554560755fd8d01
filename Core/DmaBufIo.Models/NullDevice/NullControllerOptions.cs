using DmaBufIo.Devices;
using DmaBufIo.Errors;

namespace DmaBufIo.Models.NullDevice;

/// <summary>What a null controller is made of. It has one namespace, number 1.</summary>
public sealed record NullControllerOptions
{
    /// <summary>A name for messages; unique among the living devices of a fabric.</summary>
    public string Name { get; init; } = "null";

    /// <summary>Where the controller hangs in the PCI tree; null when that does not matter.</summary>
    public DeviceLocation? Location { get; init; }

    /// <summary>Bytes of the namespace, a positive multiple of the logical block.</summary>
    public long SizeBytes { get; init; } = 1L << 40;

    /// <summary>Bytes of a logical block: 512 or 4096.</summary>
    public int LbaSize { get; init; } = 512;

    /// <summary>Maximum data transfer size as a power of two of 4 KiB pages (P12), 1 to 20; 0 is no limit.</summary>
    public int Mdts { get; init; } = 5;

    /// <summary>Most entries of an I/O queue: 2 to 65,536.</summary>
    public int MaxQueueEntries { get; init; } = 1024;

    /// <summary>Most I/O queue pairs: 1 to 2,047.</summary>
    public int MaxQueues { get; init; } = 64;

    internal void Validate()
    {
        Require(LbaSize is 512 or 4096, nameof(LbaSize), $"{LbaSize} is no supported block size", "Use 512 or 4096");
        Require(SizeBytes > 0 && SizeBytes % LbaSize == 0, nameof(SizeBytes), $"{SizeBytes} is no positive multiple of the block of {LbaSize} bytes", "Give whole blocks");
        Require(Mdts is >= 0 and <= 20, nameof(Mdts), $"{Mdts} is out of range", "Use 0 (no limit) to 20");
        Require(MaxQueueEntries is >= 2 and <= 65536, nameof(MaxQueueEntries), $"{MaxQueueEntries} is out of range", "Use 2 to 65536");
        Require(MaxQueues is >= 1 and <= 2047, nameof(MaxQueues), $"{MaxQueues} is out of range", "Use 1 to 2047");
    }

    private void Require(bool condition, string option, string problem, string remedy)
    {
        if (!condition)
            throw new DmaBufIoException(Errno.EINVAL, "Models", $"{Name}.{option}", problem, remedy);
    }
}
