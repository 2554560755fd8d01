namespace DmaBufIo.Hosting;

/// <summary>What has happened to a plugin.</summary>
public enum PluginChange
{
    /// <summary>It was loaded.</summary>
    Loaded,

    /// <summary>It was found and refused; the reason is told.</summary>
    Refused,

    /// <summary>It is about to be drained: devices of it are going to be closed, and whoever has buffers of it registered should remove the registrations.</summary>
    Draining,

    /// <summary>It should have been unloaded or reloaded, and stays loaded; the reason is told. What a drain had closed until its limit stays closed.</summary>
    Kept,

    /// <summary>It was unloaded.</summary>
    Unloaded,

    /// <summary>It was unloaded, and a new version of it was loaded.</summary>
    Reloaded,
}

/// <summary>Tells of a change among the plugins (<see cref="PluginManager.PluginChanged"/>).</summary>
public sealed class PluginChangedEventArgs : EventArgs
{
    internal PluginChangedEventArgs(PluginChange change, PluginStatus plugin)
    {
        Change = change;
        Plugin = plugin;
    }

    /// <summary>What has happened.</summary>
    public PluginChange Change { get; }

    /// <summary>The plugin as it is now; for one that was unloaded, as it was.</summary>
    public PluginStatus Plugin { get; }

    /// <summary>What was unloaded, with the names of what was closed for it; null when nothing was.</summary>
    public UnloadedPlugin? Unloaded { get; init; }

    /// <summary>Why it was refused or kept; null otherwise.</summary>
    public string? Reason { get; init; }
}
