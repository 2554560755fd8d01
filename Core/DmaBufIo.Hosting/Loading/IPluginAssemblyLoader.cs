using System.Reflection;

namespace DmaBufIo.Hosting.Loading;

/// <summary>
/// Loads the assemblies of one plugin apart from the host's: one object per loaded plugin. The vocabulary is that of the package
/// McMaster.NETCore.Plugins, so that its loader can be put in behind this interface (<see cref="DmaBufIoOptions.AssemblyLoader"/>).
/// </summary>
public interface IPluginAssemblyLoader : IDisposable
{
    /// <summary>True when disposing gives the assemblies' memory back once nothing refers to their types any more.</summary>
    bool IsUnloadable { get; }

    /// <summary>Loads the entry assembly, with its symbols where they lie beside it.</summary>
    /// <returns>The assembly, in a load context of the plugin's own; the same one at every call.</returns>
    /// <exception cref="BadImageFormatException">The file is no whole .NET assembly.</exception>
    Assembly LoadDefaultAssembly();
}
