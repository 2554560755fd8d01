using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.Pci;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Fixtures.FaultyFunction;

/// <summary>A small disk as a PCI function, and its driver, correct but for the one fault that the setting <c>fault</c> names.</summary>
public sealed class FaultyFunctionPlugin : IDmaBufIoPlugin
{
    public PluginInfo Info { get; } = new("faulty-function", new Version(1, 0), "A PCI function with one fault", PluginKinds.PciFunction | PluginKinds.Importer)
    {
        Words = ["faulty-function"],
        Options = [new PluginOption("clock", "on or off", "off", "a register that counts tenths of a second"), new PluginOption("events", "on or off", "off", "tells by an interrupt that it is ready, a little late")],
    };

    public void Register(IServiceCollection services, IConfiguration options) => services
        .AddSingleton(new Fault(options["fault"]))
        .AddSingleton<IPciFunctionFactory, FaultyFunctionFactory>()
        .AddSingleton<IPciDriver, FunctionDriver>();
}

/// <summary>Which fault the plugin has.</summary>
public sealed class Fault(string? name)
{
    public bool Is(string other) => name == other;
}

internal sealed class FaultyFunctionFactory(IDmaFabric fabric, Fault fault) : IPciFunctionFactory
{
    private int _made;

    public string Word => "faulty-function";

    public PciFunction Create(DeviceExpression expression, bool readOnly)
    {
        expression.AllowOnly("clock", "events");
        if (!DeviceExpression.TryParseSize(expression.Text ?? "", out long size) || size <= 0 || size > 1 << 30 || size % 4096 != 0)
            throw expression.Broken(expression.Position, $"'{expression.Text}' is not a size in whole pages", "Write for example faulty-function:4M");
        int number = Interlocked.Increment(ref _made);
        return new SmallFunction($"faulty-function{number}", DeviceLocation.Parse($"hb0/faulty{number}"), (int)size, fabric, fault)
        {
            HasClock = expression.Switch("clock", false),
            HasEvents = expression.Switch("events", false),
        };
    }
}
