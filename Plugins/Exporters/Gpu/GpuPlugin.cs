using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Exporters.Gpu;

/// <summary>The exporter <c>gpu</c>: memory of a modelled GPU, which moves its buffers when it is short of it.</summary>
public sealed class GpuPlugin : IDmaBufIoPlugin
{
    internal const string PluginName = "gpu";

    /// <inheritdoc/>
    public PluginInfo Info { get; } = new(
        PluginName,
        typeof(GpuPlugin).Assembly.GetName().Version!,
        "Buffers of a modelled GPU: evicted when its memory is short, restored on use; a compute stand-in",
        PluginKinds.Exporter)
    {
        Words = ["gpu"],
        Options = GpuExporterFactory.Options,
    };

    /// <inheritdoc/>
    public void Register(IServiceCollection services, IConfiguration options) => services.AddSingleton<IExporterFactory, GpuExporterFactory>();
}
