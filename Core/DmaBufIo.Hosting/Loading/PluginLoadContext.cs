using System.Reflection;
using System.Runtime.Loader;

namespace DmaBufIo.Hosting.Loading;

/// <summary>
/// The load context of one plugin: shared assemblies from the host, private ones from the plugin's folder, the rest from the host.
/// </summary>
/// <remarks>
/// Assemblies are read into memory, not mapped: a file that is truncated or rewritten while it is mapped takes the process down, and a
/// mapped one could not be replaced where files are locked. Native libraries can only be loaded by path.
/// </remarks>
internal sealed class PluginLoadContext(PluginConfig config)
    : AssemblyLoadContext(Path.GetFileNameWithoutExtension(config.MainAssemblyPath), config.IsUnloadable)
{
    private readonly AssemblyDependencyResolver _resolver = new(config.MainAssemblyPath);
    private readonly Lock _lock = new();

    internal Assembly LoadMain() => LoadBytes(new AssemblyName(Path.GetFileNameWithoutExtension(config.MainAssemblyPath)), config.MainAssemblyPath);

    protected override Assembly? Load(AssemblyName assemblyName)
    {
        if (SharedAssemblies.IsShared(assemblyName.Name!, config) && SharedAssemblies.OfHost(assemblyName.Name!) is Assembly shared)
            return shared;
        return _resolver.ResolveAssemblyToPath(assemblyName) is string path ? LoadBytes(assemblyName, path) : null;
    }

    protected override nint LoadUnmanagedDll(string unmanagedDllName) =>
        _resolver.ResolveUnmanagedDllToPath(unmanagedDllName) is string path ? LoadUnmanagedDllFromPath(path) : 0;

    // Satellite assemblies of all cultures share a simple name. None is neutral, as is an empty one.
    private static bool IsSame(AssemblyName loaded, AssemblyName name) =>
        loaded.Name == name.Name && string.Equals(loaded.CultureName ?? "", name.CultureName ?? "", StringComparison.OrdinalIgnoreCase);

    // The runtime may ask for one assembly from two threads at once, and refuses a second load of the same name. The context must not keep
    // a table of what it has loaded: after Unload the runtime keeps the context until its assemblies are gone, and the table would keep the
    // assemblies.
    private Assembly LoadBytes(AssemblyName name, string path)
    {
        lock (_lock)
        {
            if (Assemblies.FirstOrDefault(a => IsSame(a.GetName(), name)) is Assembly loaded)
                return loaded;
            byte[] bytes = File.ReadAllBytes(path);
            if (config.Rewrite is { } rewrite)
            {
                using var rewritten = new MemoryStream(rewrite(bytes), writable: false);
                return LoadFromStream(rewritten);
            }

            string symbols = Path.ChangeExtension(path, ".pdb");
            using var image = new MemoryStream(bytes, writable: false);
            using MemoryStream? pdb = File.Exists(symbols) ? new MemoryStream(File.ReadAllBytes(symbols), writable: false) : null;
            return LoadFromStream(image, pdb);
        }
    }
}
