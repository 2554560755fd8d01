using DmaBufIo.Devices;
using DmaBufIo.Errors;

namespace DmaBufIo.Pci.Model;

/// <summary>What a modelled NVMe controller is made of; fixed for its life. One controller has one namespace, number 1.</summary>
public sealed record NvmeModelOptions
{
    /// <summary>A name for messages and fault reports; unique among the living devices of a fabric.</summary>
    public string Name { get; init; } = "nvme-model";

    /// <summary>Where the controller hangs in the PCI tree; null when that does not matter.</summary>
    public DeviceLocation? Location { get; init; }

    /// <summary>The file behind namespace 1, or null for memory. The model opens it and holds it open until it is disposed.</summary>
    public string? Path { get; init; }

    /// <summary>
    /// Size of namespace 1 in bytes, rounded up to whole logical blocks (at least one). Null: the file's length when the controller
    /// is created.
    /// Required without a file. With one it may exceed the file's length: what lies beyond reads as zeros until it is written.
    /// </summary>
    public long? SizeBytes { get; init; }

    /// <summary>Creates the file when it does not exist. A file that exists keeps its contents.</summary>
    public bool CreateFile { get; init; }

    /// <summary>Bytes of a logical block: 512 or 4096.</summary>
    public int LbaSize { get; init; } = 512;

    /// <summary>The namespace is write-protected and the file is opened for reading only.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Maximum data transfer size as a power of two of 4 KiB pages (P12): 5 is 128 KiB, 0 is no limit.</summary>
    public int Mdts { get; init; } = 5;

    /// <summary>Most entries of an I/O queue (CAP.MQES + 1): 2 to 65,536.</summary>
    public int MaxQueueEntries { get; init; } = 1024;

    /// <summary>Most I/O queue pairs: 1 to 2,047. There is one interrupt vector more.</summary>
    public int MaxQueues { get; init; } = 16;

    /// <summary>
    /// Checks every rule a host must keep, also those a controller need not check; each breach is recorded and fails its command.
    /// </summary>
    public bool Strict { get; init; } = true;

    /// <summary>
    /// True: the controller works on a thread of its own. False: inline, when the driver calls <see cref="PciFunction.Advance"/>.
    /// </summary>
    public bool OwnThread { get; init; } = true;

    /// <summary>
    /// Reports a volatile write cache (VWC): written data is durable only after Flush, or with FUA, or with the cache disabled by
    /// its feature.
    /// Without it every write is made durable before it completes.
    /// </summary>
    public bool VolatileWriteCache { get; init; } = true;

    /// <summary>
    /// Bytes of a volatile write cache, whole logical blocks: writes lie in it until they are flushed or crowded out, and a crash (<see cref="NvmeControllerModel.Crash"/>) keeps any
    /// subset of them. 0, the default: writes go to the storage at once; the host's page cache is the only cache. Needs <see cref="VolatileWriteCache"/>.
    /// </summary>
    public long WriteCacheSize { get; init; }

    /// <summary>Storage in memory that outlives the controller, in place of a file or memory of its own; null for none.</summary>
    public NamespaceMemory? Memory { get; init; }

    internal void Validate()
    {
        Require(Name.Length > 0, nameof(Name), "the name is empty", "Give the controller a name");
        Require(LbaSize is 512 or 4096, nameof(LbaSize), $"{LbaSize} is no supported block size", "Use 512 or 4096");
        Require(Mdts is >= 0 and <= 20, nameof(Mdts), $"{Mdts} is out of range", "Use 0 (no limit) to 20");
        Require(MaxQueueEntries is >= 2 and <= 65536, nameof(MaxQueueEntries), $"{MaxQueueEntries} is out of range", "Use 2 to 65536");
        Require(MaxQueues is >= 1 and <= 2047, nameof(MaxQueues), $"{MaxQueues} is out of range", "Use 1 to 2047");
        Require(SizeBytes is null or >= 0, nameof(SizeBytes), $"{SizeBytes} is negative", "Give a size of 0 or more");
        Require(WriteCacheSize is >= 0 and <= 1 << 30 && WriteCacheSize % LbaSize == 0, nameof(WriteCacheSize), $"{WriteCacheSize} bytes are no cache of whole blocks", "Use a multiple of the logical block, up to 1 GiB");
        Require(WriteCacheSize == 0 || VolatileWriteCache, nameof(WriteCacheSize), "a cache must be reported", "Set VolatileWriteCache");
        Require(Memory is null || (Path is null && SizeBytes is null), nameof(Memory), "the namespace has another storage, too", "Give a file, a size or Memory");
        Require(Path is not null || Memory is not null || SizeBytes > 0, nameof(SizeBytes), "a namespace in memory needs a size", "Give the size or a file");
        Require(Path is null || Path.Length > 0, nameof(Path), "the file name is empty", "Give the name of a file");
        Require(!(CreateFile && ReadOnly), nameof(CreateFile), "a read-only file cannot be created", "Leave one of the two out");
    }

    private void Require(bool condition, string option, string problem, string remedy)
    {
        if (!condition)
            throw new DmaBufIoException(Errno.EINVAL, "Pci.Model", $"{Name}.{option}", problem, remedy);
    }
}
