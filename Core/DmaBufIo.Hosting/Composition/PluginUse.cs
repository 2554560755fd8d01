namespace DmaBufIo.Hosting;

/// <summary>Keeps a plugin from being unloaded while a device of it is open, or while its code runs.</summary>
internal sealed class PluginUse(PluginManager manager, LoadedPlugin plugin) : IDisposable
{
    private bool _ended;

    internal LoadedPlugin Plugin => plugin;

    /// <summary>A second use of the same plugin, to be ended by itself.</summary>
    internal PluginUse Again() => manager.BeginUseAgain(plugin);

    public void Dispose()
    {
        if (!Interlocked.Exchange(ref _ended, true))
            manager.EndUse(plugin);
    }
}
