using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Pci;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Fixtures.FaultyImporter;

/// <summary>
/// A card with memory and a DMA engine of its own, and its driver: correct, until its setting <c>fault</c> names one mistake. Each mistake is one that somebody could make.
/// </summary>
public sealed class FaultyImporterPlugin : IDmaBufIoPlugin
{
    public PluginInfo Info { get; } = new("faulty-importer", new Version(1, 0), "Cards with memory, and a driver with a mistake", PluginKinds.Importer | PluginKinds.PciFunction) { Words = ["card"] };

    public void Register(IServiceCollection services, IConfiguration options)
    {
        services.AddSingleton(new Fault(options["fault"]));
        services.AddSingleton<IPciFunctionFactory, CardFactory>();
        services.AddSingleton<IPciDriver, CardDriver>();
    }
}

/// <summary>The one mistake that the driver makes.</summary>
internal sealed class Fault(string? name)
{
    /// <summary>True when this is it.</summary>
    internal bool Is(string mistake) => name == mistake;
}

/// <summary>Makes cards: <c>card:SIZE</c>.</summary>
internal sealed class CardFactory(IDmaFabric fabric) : IPciFunctionFactory
{
    private int _made;

    public string Word => "card";

    public PciFunction Create(DeviceExpression expression, bool readOnly)
    {
        expression.AllowOnly();
        if (!DeviceExpression.TryParseSize(expression.Text ?? "", out long size) || size <= 0 || size % 4096 != 0)
            throw expression.Broken(expression.Position, $"'{expression.Text}' is not a size in whole pages", "Write for example card:4M");
        return new Card(fabric, $"card{Interlocked.Increment(ref _made) - 1}", size);
    }
}

/// <summary>The driver, as the bus sees it.</summary>
internal sealed class CardDriver(Fault fault) : IPciDriver
{
    public string Name => "card";

    public bool Matches(in PciIdentity identity) => identity == Card.WellKnown;

    public IPciBinding Probe(PciFunction function, string name) => function is Card card
        ? new CardBinding(card, name, fault)
        : throw new DmaBufIoException(Errno.ENODEV, "faulty-importer", name, "the function is no card of this plugin", "Open card:SIZE");
}
