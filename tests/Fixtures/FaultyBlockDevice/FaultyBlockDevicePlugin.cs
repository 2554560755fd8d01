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
        Options = [new PluginOption("ro", "on or off", "off", "faulty: write-protected")],
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
        expression.AllowOnly("ro");
        if (members.Count != 0)
            throw expression.Broken(expression.Members[0].Position, "a disk stands on no other device", "Remove the parentheses");
        if (!DeviceExpression.TryParseSize(expression.Text ?? "", out long size) || size <= 0 || size % 4096 != 0)
            throw expression.Broken(expression.Position, $"'{expression.Text}' is not a size in whole pages", "Write for example faulty:4M");
        return new FaultyDisk(fabric, $"faulty{Interlocked.Increment(ref _made)}", size, expression.Switch("ro", false), fault);
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
