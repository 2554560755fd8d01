using System.Reflection;
using System.Runtime.Loader;

namespace DmaBufIo.Hosting.Loading;

/// <summary>The load context of one plugin: shared assemblies from the host, private ones from the plugin's folder, the rest from the host.</summary>
/// <remarks>
/// Assemblies are read into memory, not mapped: a file that is truncated or rewritten while it is mapped takes the process down, and a mapped
/// one could not be replaced where files are locked. Native libraries can only be loaded by path.
/// </remarks>
internal sealed class PluginLoadContext(PluginConfig config)
    : AssemblyLoadContext(Path.GetFileNameWithoutExtension(config.MainAssemblyPath), config.IsUnloadable)
{
    private readonly AssemblyDependencyResolver _resolver = new(config.MainAssemblyPath);
    private readonly Lock _lock = new();
    private readonly Dictionary<string, Assembly> _loaded = new(StringComparer.Ordinal);

    internal Assembly LoadMain() => LoadBytes(config.MainAssemblyPath);

    protected override Assembly? Load(AssemblyName assemblyName)
    {
        if (SharedAssemblies.IsShared(assemblyName.Name!, config) && SharedAssemblies.OfHost(assemblyName.Name!) is Assembly shared)
            return shared;
        return _resolver.ResolveAssemblyToPath(assemblyName) is string path ? LoadBytes(path) : null;
    }

    protected override nint LoadUnmanagedDll(string unmanagedDllName) =>
        _resolver.ResolveUnmanagedDllToPath(unmanagedDllName) is string path ? LoadUnmanagedDllFromPath(path) : 0;

    // The runtime may ask for one assembly from two threads at once, and refuses a second load of the same name.
    private Assembly LoadBytes(string path)
    {
        lock (_lock)
        {
            if (_loaded.TryGetValue(path, out Assembly? assembly))
                return assembly;
            string symbols = Path.ChangeExtension(path, ".pdb");
            using var image = new MemoryStream(File.ReadAllBytes(path), writable: false);
            using MemoryStream? pdb = File.Exists(symbols) ? new MemoryStream(File.ReadAllBytes(symbols), writable: false) : null;
            assembly = LoadFromStream(image, pdb);
            _loaded.Add(path, assembly);
            return assembly;
        }
    }
}
