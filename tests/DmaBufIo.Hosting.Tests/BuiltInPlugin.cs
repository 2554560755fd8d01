using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Pci;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Tests;

/// <summary>
/// A plugin of the host application: a driver for what the good plugin's own driver leaves alone, and for what it does not.
/// </summary>
public sealed class BuiltInPlugin : IDmaBufIoPlugin
{
    public PluginInfo Info => new("built-in", new Version(3, 4), "Comes with the application", PluginKinds.Importer);

    public void Register(IServiceCollection services, IConfiguration options) =>
        services.AddSingleton<IPciDriver>(new AnyDriver(options["claims"] == "everything"));

    private sealed class AnyDriver(bool everything) : IPciDriver
    {
        public string Name => "any-driver";

        public bool Matches(in PciIdentity identity) => everything || identity.Vendor == 0x4321;

        public IPciBinding Probe(PciFunction function, string name) => new Binding(function);
    }

    private sealed class Binding(PciFunction function) : IPciBinding
    {
        public IReadOnlyList<BlockDevice> BlockDevices => [];

        public void Reset() => function.Reset();

        public void Dispose() => function.Dispose();
    }
}

/// <summary>A fabric that only tells whether it was disposed.</summary>
internal sealed class IdleFabric : IDmaFabric, IDisposable
{
    internal bool IsDisposed { get; private set; }

    public (DmaAddressSpace Space, DmaPort Port) AddDevice(string deviceName) => throw new NotSupportedException("No device is added.");

    public void RemoveDevice(DmaAddressSpace space)
    {
    }

    public void Dispose() => IsDisposed = true;
}
