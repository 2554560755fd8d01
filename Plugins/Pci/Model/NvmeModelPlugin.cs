using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Pci.Model;

/// <summary>The NVMe controller model as a plugin: PCI functions for the word <c>nvme</c>.</summary>
public sealed class NvmeModelPlugin : IDmaBufIoPlugin
{
    /// <inheritdoc/>
    public PluginInfo Info { get; } = new(
        "nvme-model",
        typeof(NvmeModelPlugin).Assembly.GetName().Version!,
        "In-process NVMe controllers whose namespaces are files",
        PluginKinds.PciFunction)
    {
        Words = ["nvme"],
        Options = NvmeModelFactory.Options,
    };

    /// <inheritdoc/>
    public void Register(IServiceCollection services, IConfiguration options) =>
        services.AddSingleton<IPciFunctionFactory, NvmeModelFactory>();
}
