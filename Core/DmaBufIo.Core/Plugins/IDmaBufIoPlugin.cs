using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Plugins;

/// <summary>
/// The entry contract of a plugin. The entry assembly of a plugin folder holds exactly one public class that implements it,
/// with a public parameterless constructor. Plugins are fully trusted code.
/// </summary>
/// <remarks>
/// <see cref="Register"/> adds the plugin's factories (<see cref="IPciFunctionFactory"/>, <see cref="IPciDriver"/>,
/// <see cref="IBlockDeviceFactory"/>, <see cref="IFileFactory"/>, <see cref="IRdmaDeviceFactory"/>, <see cref="IExporterFactory"/>) to a collection from which the host builds a scope of the
/// plugin's own; the scope is disposed when the plugin is unloaded, and everything in it with it. Keyed services are refused.
/// </remarks>
public interface IDmaBufIoPlugin
{
    /// <summary>What the plugin is. Constant: asked for before <see cref="Register"/>, also when the plugin is only listed.</summary>
    PluginInfo Info { get; }

    /// <summary>Adds the plugin's services.</summary>
    /// <param name="services">An empty collection; host services (logging, the DMA fabric) can be injected besides.</param>
    /// <param name="options">The section of the host's configuration that bears the plugin's name; may be empty.</param>
    void Register(IServiceCollection services, IConfiguration options);
}

/// <summary>What a plugin says of itself.</summary>
/// <param name="Name">Unique, lower case with dashes, for example "nvme-pci". Also the name of its configuration section.</param>
/// <param name="Version">The plugin's own version.</param>
/// <param name="Description">One line.</param>
/// <param name="Kinds">What it brings.</param>
public sealed record PluginInfo(string Name, Version Version, string Description, PluginKinds Kinds)
{
    /// <summary>The words it adds to device expressions and exporter names, for example "nvme".</summary>
    public IReadOnlyList<string> Words { get; init; } = [];

    /// <summary>The options it understands, in expressions or in configuration.</summary>
    public IReadOnlyList<PluginOption> Options { get; init; } = [];
}

/// <summary>One option of a plugin, for listings and for error messages.</summary>
/// <param name="Name">
/// As written in an expression, <c>lba</c> in <c>nvme:FILE,lba=4096</c>, or in the plugin's configuration; <c>WORD:TEXT</c> for what follows a word's colon.
/// </param>
/// <param name="Values">What may be given, for people: "512 or 4096".</param>
/// <param name="Default">The default, as it would be written.</param>
/// <param name="Description">One line.</param>
public sealed record PluginOption(string Name, string Values, string Default, string Description);

/// <summary>What a plugin brings.</summary>
[Flags]
public enum PluginKinds
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Drivers or block devices that do I/O on buffers.</summary>
    Importer = 1,

    /// <summary>Buffers.</summary>
    Exporter = 2,

    /// <summary>PCI functions: device models or real devices.</summary>
    PciFunction = 4,
}
