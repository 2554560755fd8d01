using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Native;
using DmaBufIo.Plugins;

namespace DmaBufIo.Pci.Model;

/// <summary>The word <c>nvme:FILE[,lba=4096,…]</c>: a file presented as the namespace of a controller.</summary>
internal sealed class NvmeModelFactory(IDmaFabric fabric) : IPciFunctionFactory
{
    private int _count;

    internal static IReadOnlyList<PluginOption> Options { get; } =
    [
        new("lba", "512 or 4096", "512", "Bytes of a logical block"),
        new("size", "a size", "the file's length", "Bytes of the namespace, rounded up to whole blocks"),
        new("ro", "on or off", "off", "Write-protect the namespace"),
        new("mdts", "a size from 8K, a power of two, or 0", "128K", "Largest transfer of one command; 0 is no limit"),
        new("entries", "2 to 65536", "1024", "Most entries of a queue"),
        new("queues", "1 to 2047", "16", "Most pairs of I/O queues"),
        new("thread", "on or off", "on", "Work on a thread of its own, or inline when the driver looks for completions"),
        new("cache", "on or off", "on", "Report a volatile write cache"),
        new("cachesize", "a size, whole blocks", "0", "Bytes of a write cache of its own, which a crash loses; 0 is none but the host's"),
        new("slot", "a place in the PCI tree", "a root port of its own below hb0", "Where the controller hangs: BRIDGE/PORT[/PORT...]"),
    ];

    public string Word => "nvme";

    public PciFunction Create(DeviceExpression expression, bool readOnly)
    {
        expression.AllowOnly([.. Options.Select(static o => o.Name)]);
        if (string.IsNullOrEmpty(expression.Text))
            throw expression.Broken(expression.Position, "'nvme' needs a file", "Write nvme:FILE");
        if (expression.Members.Count != 0)
            throw expression.Broken(expression.Members[0].Position, "'nvme' takes no members", "Write nvme:FILE; sets of devices have words of their own");

        // Looked at before it is opened: opening a pipe would wait for its other end.
        if (FileStatus.Of(expression.Text, out FileStatus file) == Errno.Ok && file.Kind == FileKind.Other)
            throw new DmaBufIoException(Errno.EINVAL, "Pci.Model", expression.Text, "it is neither a regular file nor a block device", "Name a regular file");
        bool writeProtected = expression.Switch("ro", false);
        int number = Interlocked.Increment(ref _count);
        var options = new NvmeModelOptions
        {
            Name = $"nvme:{expression.Text}#{number}",
            Location = expression.Location("slot") ?? DeviceLocation.Parse($"hb0/nvme{number}"),
            Path = expression.Text,
            LbaSize = Number(expression, "lba", 512),
            SizeBytes = expression.Options.ContainsKey("size") ? expression.Size("size", 0) : null,
            ReadOnly = readOnly || writeProtected,
            Mdts = Mdts(expression),
            MaxQueueEntries = Number(expression, "entries", 1024),
            MaxQueues = Number(expression, "queues", 16),
            OwnThread = expression.Switch("thread", true),
            VolatileWriteCache = expression.Switch("cache", true),
            WriteCacheSize = expression.Size("cachesize", 0),
        };
        try
        {
            return new NvmeControllerModel(options, fabric);
        }
        catch (DmaBufIoException e) when (e.Errno == Errno.EINVAL && GivenFor(expression, e.Subject) is { } given)
        {
            throw expression.Broken(given.Position, e.Problem, e.Remedy);
        }
    }

    // The controller names its own properties; who wrote the expression knows them by the options that gave them.
    private static DeviceOption? GivenFor(DeviceExpression expression, string subject)
    {
        string? option = subject[(subject.LastIndexOf('.') + 1)..] switch
        {
            nameof(NvmeModelOptions.LbaSize) => "lba",
            nameof(NvmeModelOptions.SizeBytes) => "size",
            nameof(NvmeModelOptions.Mdts) => "mdts",
            nameof(NvmeModelOptions.MaxQueueEntries) => "entries",
            nameof(NvmeModelOptions.MaxQueues) => "queues",
            nameof(NvmeModelOptions.WriteCacheSize) => "cachesize",
            _ => null,
        };
        return option is not null && expression.Options.TryGetValue(option, out DeviceOption given) ? given : null;
    }

    public string? BackingFile(DeviceExpression expression) => string.IsNullOrEmpty(expression.Text) ? null : expression.Text;

    private static int Mdts(DeviceExpression expression)
    {
        long size = expression.Size("mdts", 128 << 10);
        if (size == 0)
            return 0;
        // The field counts in powers of two of 4 KiB pages, and its 0 means no limit: one page cannot be said.
        if (size < 8192 || !long.IsPow2(size) || size > 4L << 30)
            throw expression.Broken(expression.Options["mdts"].Position, "the largest transfer must be a power of two from 8K to 4G, or 0", "Write for example mdts=128K");
        return (int)(long.Log2(size) - 12);
    }

    private static int Number(DeviceExpression expression, string name, int fallback)
    {
        long value = expression.Size(name, fallback);
        return value <= int.MaxValue ? (int)value : throw expression.Broken(expression.Options[name].Position, $"{value} is too large", "Write a smaller number");
    }
}
