using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Pci;
using DmaBufIo.Plugins;

namespace DmaBufIo.Models.NullDevice;

/// <summary>The word <c>null:SIZE[,lba=4096,…]</c>: a controller that completes commands and moves nothing.</summary>
/// <param name="fabric">Where its functions get their address spaces.</param>
public sealed class NullControllerFactory(IDmaFabric fabric) : IPciFunctionFactory
{
    private int _count;

    /// <summary>The options of the word.</summary>
    public static IReadOnlyList<PluginOption> Options { get; } =
    [
        new("lba", "512 or 4096", "512", "Bytes of a logical block"),
        new("mdts", "a size from 8K, a power of two, or 0", "128K", "Largest transfer of one command; 0 is no limit"),
        new("entries", "2 to 65536", "1024", "Most entries of a queue"),
        new("queues", "1 to 2047", "64", "Most pairs of I/O queues"),
        new("slot", "a place in the PCI tree", "a root port of its own below hb0", "Where the controller hangs: BRIDGE/PORT[/PORT...]"),
    ];

    /// <inheritdoc/>
    public string Word => "null";

    /// <inheritdoc/>
    public PciFunction Create(DeviceExpression expression, bool readOnly)
    {
        expression.AllowOnly([.. Options.Select(static o => o.Name)]);
        if (string.IsNullOrEmpty(expression.Text) || !DeviceExpression.TryParseSize(expression.Text, out long size))
            throw expression.Broken(expression.Position, "'null' needs a size", "Write for example null:1G");
        if (expression.Members.Count != 0)
            throw expression.Broken(expression.Members[0].Position, "'null' takes no members", "Write null:SIZE; sets of devices have words of their own");
        int number = Interlocked.Increment(ref _count);
        var options = new NullControllerOptions
        {
            Name = $"null:{expression.Text}#{number}",
            Location = expression.Location("slot") ?? DeviceLocation.Parse($"hb0/null{number}"),
            SizeBytes = size,
            LbaSize = Number(expression, "lba", 512),
            Mdts = Mdts(expression),
            MaxQueueEntries = Number(expression, "entries", 1024),
            MaxQueues = Number(expression, "queues", 64),
        };
        try
        {
            return new NullController(options, fabric);
        }
        catch (DmaBufIoException e) when (e.Errno == Errno.EINVAL)
        {
            throw expression.Broken(PositionOf(expression, e.Subject), e.Problem, e.Remedy);
        }
    }

    // The controller names its own properties; who wrote the expression knows them by the options that gave them.
    private static int PositionOf(DeviceExpression expression, string subject)
    {
        string option = subject[(subject.LastIndexOf('.') + 1)..] switch
        {
            nameof(NullControllerOptions.LbaSize) => "lba",
            nameof(NullControllerOptions.MaxQueueEntries) => "entries",
            nameof(NullControllerOptions.MaxQueues) => "queues",
            _ => "",
        };
        return expression.Options.TryGetValue(option, out DeviceOption given) ? given.Position : expression.Position;
    }

    private static int Mdts(DeviceExpression expression)
    {
        long size = expression.Size("mdts", 128 << 10);
        if (size == 0)
            return 0;
        if (size < 8192 || !long.IsPow2(size) || size > 4L << 30)
            throw expression.Broken(expression.Options["mdts"].Position, "the largest transfer must be a power of two from 8K to 4G, or 0", "Write for example mdts=128K");
        return (int)(long.Log2(size) - 12);
    }

    private static int Number(DeviceExpression expression, string name, int fallback) =>
        expression.Size(name, fallback) is var value && value <= int.MaxValue
            ? (int)value
            : throw expression.Broken(expression.Options[name].Position, $"{value} is too large", "Write a smaller number");
}
