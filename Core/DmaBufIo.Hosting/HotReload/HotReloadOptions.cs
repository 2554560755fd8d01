namespace DmaBufIo.Hosting;

/// <summary>
/// Reloading plugins while the application runs (<see cref="DmaBufIoOptions.HotReload"/>): the plugin folder is watched, new plugins in it are loaded, changed ones reloaded, and those that are gone are
/// unloaded. The vocabulary is that of the package McMaster.NETCore.Plugins.
/// </summary>
/// <remarks>
/// A folder whose files are not whole yet is left until it changes again. Best is to unpack a new version under a name that begins with a dot and to rename it into place. A version that does
/// not pass the look (<see cref="PluginManager.Reload(string, UnloadPolicy, CancellationToken)"/>) leaves the old one loaded. A plugin that could not be unloaded is tried again when its folder changes, or a
/// device or buffer of the host is closed. What has happened is told by <see cref="PluginManager.PluginChanged"/> and logged.
/// </remarks>
public sealed class HotReloadOptions
{
    /// <summary>True to watch the plugin folder. Not together with <see cref="DmaBufIoOptions.NonCollectiblePlugins"/>.</summary>
    public bool EnableHotReload { get; set; }

    /// <summary>How long nothing has to happen in the plugin folder before it is looked at: a copy makes many changes. 200 ms by default.</summary>
    public TimeSpan ReloadDelay { get; set; } = TimeSpan.FromMilliseconds(200);

    /// <summary>What happens to devices and buffers of a plugin that has changed or is gone: with <see cref="UnloadPolicy.Refuse"/>, the default, it stays as long as there are any.</summary>
    public UnloadPolicy UnloadPolicy { get; set; }

    /// <summary>The limit of one <see cref="UnloadPolicy.Drain"/>; 30 seconds by default, or <see cref="Timeout.InfiniteTimeSpan"/>.</summary>
    public TimeSpan DrainTimeout { get; set; } = TimeSpan.FromSeconds(30);
}
