using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Exporters.Udmabuf;

/// <summary>The exporter <c>udmabuf</c>: host memory that never moves.</summary>
public sealed class UdmabufPlugin : IDmaBufIoPlugin
{
    /// <inheritdoc/>
    public PluginInfo Info { get; } = new(
        "udmabuf",
        typeof(UdmabufPlugin).Assembly.GetName().Version!,
        "Buffers over sealed memory files; through /dev/udmabuf where it exists",
        PluginKinds.Exporter)
    {
        Words = ["udmabuf"],
        Options =
        [
            new PluginOption("limit", "a size", "64M", "The largest buffer, as the kernel driver's size_limit_mb"),
            new PluginOption("kernel", "on or off", "on where /dev/udmabuf exists", "Make a dma-buf through /dev/udmabuf, or let the memory file stand in for it"),
        ],
    };

    /// <inheritdoc/>
    public void Register(IServiceCollection services, IConfiguration options) =>
        services.AddSingleton<IExporterFactory>(new UdmabufExporterFactory(options));
}
