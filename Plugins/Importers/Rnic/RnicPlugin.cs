using DmaBufIo.Importers.Rnic.Hardware;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Importers.Rnic;

/// <summary>The plugin: network cards in one process that send from and receive into registered buffers, and do RDMA.</summary>
public sealed class RnicPlugin : IDmaBufIoPlugin
{
    internal static string PluginName => "rnic";

    /// <inheritdoc/>
    public PluginInfo Info { get; } = new(
        PluginName,
        typeof(RnicPlugin).Assembly.GetName().Version ?? new Version(0, 0),
        "RDMA network cards on one wire: memory regions, queue pairs, completion queues",
        PluginKinds.Importer)
    {
        Words = ["rnic"],
        Options = RnicFactory.Options,
    };

    /// <inheritdoc/>
    public void Register(IServiceCollection services, IConfiguration options)
    {
        services.AddSingleton<RnicWire>();
        services.AddSingleton<IRdmaDeviceFactory, RnicFactory>();
    }
}
