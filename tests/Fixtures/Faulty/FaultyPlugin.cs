using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Pci;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Fixtures.Faulty;

/// <summary>Goes wrong in the way its assembly is named after: tests rename copies of it.</summary>
public sealed class FaultyPlugin : IDmaBufIoPlugin, IDisposable
{
    private readonly string _fault = typeof(FaultyPlugin).Assembly.GetName().Name!;

    public FaultyPlugin()
    {
        if (_fault == "ConstructorThrows")
            throw new InvalidOperationException("the constructor is broken");
    }

    public PluginInfo Info => _fault switch
    {
        "InfoThrows" => throw new InvalidOperationException("the info is broken"),
        "InfoIsNull" => null!,
        "NameIsWrong" => Named("Upper Case"),
        "NameIsTaken" => Named("good"),
        _ => Named("faulty-" + _fault.ToLowerInvariant()),
    };

    public void Register(IServiceCollection services, IConfiguration options)
    {
        switch (_fault)
        {
            case "NameIsTaken":
                break;
            case "RegisterThrows":
                throw new InvalidOperationException("the registration is broken");
            case "KeyedServices":
                services.AddKeyedSingleton("left", this);
                break;
            case "FactoryThrows":
                services.AddSingleton<IBlockDeviceFactory>(static _ => throw new InvalidOperationException("the factory is broken"));
                break;
            case "NeedsFabric":
                services.AddSingleton<IBlockDeviceFactory, FabricFactory>();
                break;
            case "NeedsUnknown":
                services.AddSingleton<IBlockDeviceFactory, UnknownFactory>();
                break;
            case "WordIsWrong":
                services.AddSingleton<IBlockDeviceFactory>(new WordFactory("Two Words"));
                break;
            case "WordIsTaken":
                services.AddSingleton<IBlockDeviceFactory>(new WordFactory("fake"));
                break;
            case "WordIsTwice":
                services.AddSingleton<IBlockDeviceFactory>(new WordFactory("twice"));
                services.AddSingleton<IBlockDeviceFactory>(new WordFactory("twice"));
                break;
            case "MatchesThrows":
                services.AddSingleton<IPciDriver>(new SpitefulDriver());
                break;
            case "DisposeThrows":
            case "DisposeFails":
                services.AddSingleton<IBlockDeviceFactory>(new WordFactory("disposable"));
                break;
            default:
                throw new InvalidOperationException($"No fault is called {_fault}.");
        }
    }

    public void Dispose()
    {
        if (_fault == "DisposeThrows")
            throw new InvalidOperationException("the disposal is broken");
        if (_fault == "DisposeFails")
            throw new DmaBufIoException(Errno.EIO, "Faulty", _fault, "the hardware does not answer at the end", "Look at it");
    }

    private static PluginInfo Named(string name) => new(name, new Version(1, 0), "Goes wrong", PluginKinds.Importer)
    {
        Words = new OwnList<string> { "faulty" },
        Options = new OwnList<PluginOption>(),
    };

    // Lists of a type of its own: a host that kept one would keep the plugin.
    private sealed class OwnList<T> : List<T>;
}

public sealed class UnknownService;

internal sealed class SpitefulDriver : IPciDriver
{
    public string Name => "spiteful-driver";

    public bool Matches(in PciIdentity identity) => throw new InvalidOperationException("the match is broken");

    public IPciBinding Probe(PciFunction function, string name) => throw new NotSupportedException("It matches nothing.");
}

internal sealed class FabricFactory(IDmaFabric fabric) : WordFactory("fabric-" + fabric.GetType().Name.ToLowerInvariant());

internal sealed class UnknownFactory(UnknownService service) : WordFactory(service.ToString()!);
