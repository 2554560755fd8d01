using DmaBufIo.Plugins;

namespace DmaBufIo.Hosting;

/// <summary>What became of one plugin, for listings. A plain copy: it keeps nothing of the plugin in memory.</summary>
/// <param name="Name">What the plugin calls itself; the name of its folder or class as long as it has not said so.</param>
/// <param name="State">Whether it works.</param>
public sealed record PluginStatus(string Name, PluginState State)
{
    /// <summary>Absolute path of the plugin's folder; null when it is built in.</summary>
    public string? Folder { get; init; }

    /// <summary>The plugin's version; null when it was refused before it could be asked.</summary>
    public Version? Version { get; init; }

    /// <summary>One line about it; empty when it was refused before it could be asked.</summary>
    public string Description { get; init; } = "";

    /// <summary>What it brings.</summary>
    public PluginKinds Kinds { get; init; }

    /// <summary>The words it adds to device and exporter expressions: those it announces and those of its factories.</summary>
    public IReadOnlyList<string> Words { get; init; } = [];

    /// <summary>The options it understands.</summary>
    public IReadOnlyList<PluginOption> Options { get; init; } = [];

    /// <summary>Why it was refused and what to do about it; null when it is loaded.</summary>
    public string? Reason { get; init; }

    /// <summary>True when the host application brings it, false when it was loaded from a folder.</summary>
    public bool IsBuiltIn => Folder is null;

    /// <summary>True when unloading gives its memory back.</summary>
    public bool IsUnloadable { get; init; }
}

/// <summary>Whether a plugin works.</summary>
public enum PluginState
{
    /// <summary>It works.</summary>
    Loaded,

    /// <summary>It was refused; the reason is told.</summary>
    Refused,

    /// <summary>
    /// It works for those who have something of it, and makes nothing new (<c>EBUSY</c>), because it is being drained (<see cref="UnloadPolicy.Drain"/>). It is unloaded next,
    /// or <see cref="Loaded"/> again.
    /// </summary>
    Draining,
}

/// <summary>A plugin that was unloaded. Its memory is given back when the last object of its types is gone.</summary>
public sealed class UnloadedPlugin
{
    private readonly WeakReference? _context;

    internal UnloadedPlugin(string name, WeakReference? context, IReadOnlyList<string> closedDevices, IReadOnlyList<string> droppedBuffers)
    {
        Name = name;
        _context = context;
        ClosedDevices = closedDevices;
        DroppedBuffers = droppedBuffers;
    }

    /// <summary>The plugin's name.</summary>
    public string Name { get; }

    /// <summary>Names of the open devices that were closed for it, in the order of closing; empty unless it was drained.</summary>
    public IReadOnlyList<string> ClosedDevices { get; }

    /// <summary>Names of the buffers to which the host's references were dropped for it; empty unless it was drained.</summary>
    public IReadOnlyList<string> DroppedBuffers { get; }

    /// <summary>True when its load context can be collected at all; false for a host that loads plugins for good.</summary>
    public bool IsUnloadable => _context is not null;

    /// <summary>
    /// True once the garbage collector has taken the load context. Objects of the plugin that the application keeps prevent it.
    /// </summary>
    public bool IsCollected => _context is { IsAlive: false };
}
