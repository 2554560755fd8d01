using System.Collections.Concurrent;
using DmaBufIo.Fixtures.Library;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Fixtures.Good;

/// <summary>
/// A plugin with everything: functions, a driver, devices on devices, buffers that move. Its version is that of its assembly.
/// </summary>
public sealed class GoodPlugin : IDmaBufIoPlugin
{
    public PluginInfo Info => new(
        "good",
        typeof(GoodPlugin).Assembly.GetName().Version!,
        Shop.Model,
        PluginKinds.Importer | PluginKinds.Exporter | PluginKinds.PciFunction)
    {
        Words = new OwnList { "fake", "pair", "plain" },
        Options = [new PluginOption("fail", "create, match, probe or stack", "", "Where to fail")],
    };

    public void Register(IServiceCollection services, IConfiguration options)
    {
        services.AddSingleton(new Journal(options["journal"]));
        services.AddSingleton<IPciFunctionFactory, FakeFunctionFactory>();
        services.AddSingleton<IPciDriver, FakeDriver>();
        services.AddSingleton<IBlockDeviceFactory, PairFactory>();
        services.AddSingleton<IExporterFactory, PlainExporterFactory>();
    }

    // A list of a type of its own: a host that kept it would keep the plugin.
    private sealed class OwnList : List<string>;
}

/// <summary>Writes down what happens, in a queue that the test put into the application's data under the configured name.</summary>
public sealed class Journal(string? name) : IDisposable
{
    private readonly ConcurrentQueue<string>? _lines = name is null ? null : (ConcurrentQueue<string>?)AppContext.GetData(name);

    public void Write(string line) => _lines?.Enqueue(line);

    public void Dispose() => Write("scope disposed");
}
