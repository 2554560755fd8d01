using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.NullDevice;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Models;

/// <summary>The models as a plugin, so that a host can build them in: the exporter <c>moving</c>, the device <c>null</c>.</summary>
public sealed class ModelsPlugin : IDmaBufIoPlugin
{
    /// <inheritdoc/>
    public PluginInfo Info { get; } = new(
        "models",
        typeof(ModelsPlugin).Assembly.GetName().Version!,
        "Devices without hardware: a buffer exporter that moves its memory, a controller that moves nothing",
        PluginKinds.Exporter | PluginKinds.PciFunction)
    {
        Words = ["moving", "null"],
        Options = NullControllerFactory.Options,
    };

    /// <inheritdoc/>
    public void Register(IServiceCollection services, IConfiguration options) =>
        services.AddSingleton<IExporterFactory, MovingExporterFactory>().AddSingleton<IPciFunctionFactory, NullControllerFactory>();
}
