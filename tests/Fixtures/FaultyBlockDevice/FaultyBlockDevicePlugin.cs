using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Fixtures.FaultyBlockDevice;

/// <summary>Disks in memory and a device on one other, correct but for the one fault that the setting <c>fault</c> names.</summary>
public sealed class FaultyBlockDevicePlugin : IDmaBufIoPlugin
{
    public PluginInfo Info { get; } = new("faulty-block-device", new Version(1, 0), "Disks with one fault", PluginKinds.Importer)
    {
        Words = ["faulty", "faulty-stack"],
        Options =
        [
            new PluginOption("ro", "on or off", "off", "faulty: write-protected"),
            new PluginOption("lba", "a size", "512", "faulty: its block"),
            new PluginOption("max", "a size", "1M", "faulty: its largest bio"),
            new PluginOption("segments", "a number", "any", "faulty: segments of a bio"),
            new PluginOption("align", "a size", "4", "faulty: alignment of memory"),
            new PluginOption("depth", "a number", "any", "faulty: bios that a queue takes"),
            new PluginOption("ends", "poll, submit, commit or backwards", "poll", "faulty: when bios end"),
            new PluginOption("slow", "milliseconds", "0", "faulty: how long a bio takes"),
            new PluginOption("looks", "on or off", "off", "faulty: whether it looks at a buffer's pieces when it is registered"),
            new PluginOption("pool", "on or off", "off", "faulty: whether it keeps a page of descriptors from the first map on"),
            new PluginOption("gathers", "on or off", "off", "faulty: whether neighbours go in one DMA"),
            new PluginOption("queues", "a number", "any", "faulty: queues that can be open at once"),
        ],
    };

    public void Register(IServiceCollection services, IConfiguration options) => services
        .AddSingleton(new Fault(options["fault"]))
        .AddSingleton<IBlockDeviceFactory, FaultyDiskFactory>()
        .AddSingleton<IBlockDeviceFactory, FaultyStackFactory>();
}

/// <summary>Which fault the plugin has.</summary>
public sealed class Fault(string? name)
{
    public bool Is(string other) => name == other;
}

internal sealed class FaultyDiskFactory(IDmaFabric fabric, Fault fault) : IBlockDeviceFactory
{
    private int _made;

    public string Word => "faulty";

    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        expression.AllowOnly(DiskShape.Options);
        if (members.Count != 0)
            throw expression.Broken(expression.Members[0].Position, "a disk stands on no other device", "Remove the parentheses");
        if (!DeviceExpression.TryParseSize(expression.Text ?? "", out long size) || size <= 0 || size % 4096 != 0)
            throw expression.Broken(expression.Position, $"'{expression.Text}' is not a size in whole pages", "Write for example faulty:4M");
        return new FaultyDisk(fabric, $"faulty{Interlocked.Increment(ref _made)}", size, new DiskShape(expression), fault);
    }
}

internal sealed class FaultyStackFactory(IDmaFabric fabric, Fault fault) : IBlockDeviceFactory
{
    private int _made;

    public string Word => "faulty-stack";

    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        expression.AllowOnly();
        expression.AllowNoText();
        if (members.Count != 1)
            throw expression.Broken(expression.Position, "it stands on one device", "Write faulty-stack(A)");
        return new FaultyStack(fabric, $"faulty-stack{Interlocked.Increment(ref _made)}", members[0], fault);
    }
}
