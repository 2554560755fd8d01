using DmaBufIo.Block;
using DmaBufIo.Pci;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.ContractTests;

/// <summary>A driver that does nothing but hand out the function it is given: as a bus would find it, and no other driver comes by.</summary>
internal sealed class FunctionCatcher : IDmaBufIoPlugin, IPciDriver
{
    public PluginInfo Info { get; } = new("contract-catcher", new Version(1, 0), "Hands PCI functions to a contract", PluginKinds.Importer);

    public string Name => "contract-catcher";

    /// <summary>True: it takes every function that is opened.</summary>
    internal bool IsArmed { get; set; }

    /// <summary>What it was given last.</summary>
    internal PciFunction? Caught { get; private set; }

    public void Register(IServiceCollection services, IConfiguration options) => services.AddSingleton<IPciDriver>(this);

    public bool Matches(in PciIdentity identity) => IsArmed;

    public IPciBinding Probe(PciFunction function, string name)
    {
        Caught = function;
        return new Binding(function);
    }

    internal void Forget() => Caught = null;

    private sealed class Binding(PciFunction function) : IPciBinding
    {
        public IReadOnlyList<BlockDevice> BlockDevices => [];

        public void Reset() => function.Reset();

        public void Dispose() => function.Dispose();
    }
}
