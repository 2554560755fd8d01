using System.Reflection;
using System.Runtime.Loader;

namespace DmaBufIo.Hosting.Loading;

/// <summary>Which assemblies a plugin takes from the host, and what the host has.</summary>
internal static class SharedAssemblies
{
    // Types of these cross the border: a second copy of one would be a different type under the same name.
    private static readonly string[] s_house = ["DmaBufIo.Core", "DmaBufIo.Models", "DmaBufIo.Hosting"];

    private static readonly AssemblyLoadContext s_host =
        AssemblyLoadContext.GetLoadContext(typeof(SharedAssemblies).Assembly) ?? AssemblyLoadContext.Default;

    /// <summary>True for an assembly of the framework: always the host's, never a private copy.</summary>
    internal static bool IsHouse(string name) => s_house.Contains(name, StringComparer.OrdinalIgnoreCase);

    /// <summary>True when the host's copy is taken where the host has one.</summary>
    internal static bool IsShared(string name, PluginConfig config) =>
        IsHouse(name)
        || name.StartsWith("Microsoft.Extensions.", StringComparison.OrdinalIgnoreCase)
        || config.SharedAssemblies.Contains(name, StringComparer.OrdinalIgnoreCase);

    /// <summary>The host's assembly of a simple name in whatever version, or null when it has none.</summary>
    internal static Assembly? OfHost(string name)
    {
        try
        {
            return s_host.LoadFromAssemblyName(new AssemblyName(name));
        }
        catch (FileNotFoundException)
        {
            return null;
        }
    }
}
