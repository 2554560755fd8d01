using System.Collections.Concurrent;
using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Fixtures.Held;

/// <summary>A plugin whose devices hold requests for as long as a test wants: <c>held:NAME</c>.</summary>
public sealed class HeldPlugin : IDmaBufIoPlugin
{
    public PluginInfo Info => new("held", typeof(HeldPlugin).Assembly.GetName().Version!, "Holds requests", PluginKinds.Importer) { Words = ["held"] };

    public void Register(IServiceCollection services, IConfiguration options)
    {
        services.AddSingleton(new Strings(options["strings"]));
        services.AddSingleton<IBlockDeviceFactory, HeldFactory>();
    }
}

/// <summary>What the test holds of the devices, in the application's data under the configured name: types of the framework and of the platform only.</summary>
public sealed class Strings(string? name)
{
    private readonly (ConcurrentDictionary<string, PuppetBlockDevice> Puppets, ManualResetEventSlim Close)? _shared =
        name is null ? null : ((ConcurrentDictionary<string, PuppetBlockDevice>, ManualResetEventSlim)?)AppContext.GetData(name);

    public void Give(PuppetBlockDevice puppet)
    {
        if (_shared is { } shared)
            shared.Puppets[puppet.Name] = puppet;
    }

    public void AwaitClose() => _shared?.Close.Wait();
}

public sealed class HeldFactory(IDmaFabric fabric, Strings strings) : IBlockDeviceFactory
{
    public string Word => "held";

    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        expression.AllowOnly("stuck", "slow");
        var disk = new HeldDisk(expression.Text!, fabric, strings, expression.Switch("stuck", false));
        if (expression.Switch("slow", false))
            strings.AwaitClose();
        return disk;
    }
}
