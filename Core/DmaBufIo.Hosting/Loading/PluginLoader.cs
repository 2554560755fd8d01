using System.Reflection;

namespace DmaBufIo.Hosting.Loading;

/// <summary>The loader that comes with the framework: a load context per plugin and the runtime's own dependency resolver.</summary>
public sealed class PluginLoader : IPluginAssemblyLoader
{
    private readonly Lock _lock = new();
    private PluginLoadContext? _context;
    private Assembly? _main;

    private PluginLoader(PluginConfig config)
    {
        IsUnloadable = config.IsUnloadable;
        _context = new PluginLoadContext(config);
    }

    /// <inheritdoc/>
    public bool IsUnloadable { get; }

    /// <summary>Makes a loader for a plugin; nothing is loaded yet.</summary>
    /// <param name="config">Which assembly, and how.</param>
    /// <returns>The loader; dispose it to unload.</returns>
    /// <exception cref="InvalidOperationException">
    /// The assembly's deps.json cannot be understood or names files that are not there.
    /// </exception>
    public static IPluginAssemblyLoader Create(PluginConfig config) => new PluginLoader(config);

    /// <inheritdoc/>
    public Assembly LoadDefaultAssembly()
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_context is null, this);
            return _main ??= _context.LoadMain();
        }
    }

    /// <summary>
    /// Unloads, where the context is collectible: its memory is given back when nothing refers to its types any more. Idempotent.
    /// </summary>
    public void Dispose()
    {
        PluginLoadContext? context;
        lock (_lock)
        {
            context = _context;
            _context = null;
            _main = null;
        }

        if (context is { IsCollectible: true })
            context.Unload();
    }
}
