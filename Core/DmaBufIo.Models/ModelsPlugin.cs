using DmaBufIo.Models.Exporters;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Models;

/// <summary>The models as a plugin, so that a host can build them in: the exporter <c>moving</c>.</summary>
public sealed class ModelsPlugin : IDmaBufIoPlugin
{
    /// <inheritdoc/>
    public PluginInfo Info { get; } = new(
        "models",
        typeof(ModelsPlugin).Assembly.GetName().Version!,
        "Devices without hardware: a buffer exporter that moves its memory",
        PluginKinds.Exporter)
    {
        Words = ["moving"],
    };

    /// <inheritdoc/>
    public void Register(IServiceCollection services, IConfiguration options) =>
        services.AddSingleton<IExporterFactory, MovingExporterFactory>();
}
