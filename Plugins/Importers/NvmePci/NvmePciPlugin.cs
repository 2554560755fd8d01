using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Importers.NvmePci;

/// <summary>The plugin: brings the driver for NVMe controllers on PCI.</summary>
public sealed class NvmePciPlugin : IDmaBufIoPlugin
{
    internal static string PluginName => "nvme-pci";

    /// <inheritdoc/>
    public PluginInfo Info { get; } = new(
        PluginName,
        typeof(NvmePciPlugin).Assembly.GetName().Version ?? new Version(0, 0),
        "NVMe controllers on PCI: namespaces as block devices, registered buffers through PRP lists",
        PluginKinds.Importer)
    {
        Options = NvmePciOptions.Described,
    };

    /// <inheritdoc/>
    /// <exception cref="Errors.DmaBufIoException">An option is wrong (<c>EINVAL</c>).</exception>
    public void Register(IServiceCollection services, IConfiguration options)
    {
        var parsed = NvmePciOptions.From(options);
        services.AddSingleton<IPciDriver>(_ => new NvmePciDriver(parsed));
    }
}
