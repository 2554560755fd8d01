using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Importers.ExtentFile;

/// <summary>The plugin: files with extents that are allocated when they are made, on one or several block devices.</summary>
public sealed class ExtentFilePlugin : IDmaBufIoPlugin
{
    internal static string PluginName => "extent-file";

    /// <inheritdoc/>
    public PluginInfo Info { get; } = new(
        PluginName,
        typeof(ExtentFilePlugin).Assembly.GetName().Version ?? new Version(0, 0),
        "Files in extents on block devices: forwards the token operation, translates offsets",
        PluginKinds.Importer)
    {
        Words = ["extent"],
        Options = [new PluginOption("size", "bytes", "that of the file", "extent: makes the file with this size, or anew when it has another")],
    };

    /// <inheritdoc/>
    public void Register(IServiceCollection services, IConfiguration options) => services.AddSingleton<IFileFactory, ExtentFileFactory>();
}
