using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;
using DmaBufIo.Sync;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Hosting;

/// <summary>Loads plugins, tells what became of them, and unloads them. Any thread; loading and unloading are serialised.</summary>
public sealed partial class PluginManager
{
    private readonly PluginActivator _activator;
    private readonly Func<IReadOnlyList<OpenedDevice>> _devices;
    private readonly Func<IReadOnlyList<ExportedBuffer>> _buffers;
    private readonly WaitQueue _progress;
    private readonly Action _released;
    private readonly CancellationToken _ending;
    private readonly ILogger _logger;
    private readonly Lock _loading = new();
    private readonly Lock _lock = new();
    private readonly List<LoadedPlugin> _plugins = [];
    private readonly List<PluginStatus> _statuses = [];
    private int _changes;
    private bool _isOver;

    /// <summary>Begins without plugins.</summary>
    /// <param name="activator">Makes plugins.</param>
    /// <param name="devices">The devices of the host that are open.</param>
    /// <param name="buffers">The buffers of the host that are held.</param>
    /// <param name="progress">Woken when <see cref="IsIdle"/> may have become true.</param>
    /// <param name="released">Told when the last thing of some kind that kept a plugin is gone; on the thread that gave it up, with no lock of this object held.</param>
    /// <param name="ending">Ends drains.</param>
    /// <param name="logger">For messages.</param>
    internal PluginManager(
        PluginActivator activator,
        Func<IReadOnlyList<OpenedDevice>> devices,
        Func<IReadOnlyList<ExportedBuffer>> buffers,
        WaitQueue progress,
        Action released,
        CancellationToken ending,
        ILogger logger)
    {
        _activator = activator;
        _devices = devices;
        _buffers = buffers;
        _progress = progress;
        _released = released;
        _ending = ending;
        _logger = logger;
    }

    /// <summary>Every plugin that was found, loaded or refused: the built-in ones first, then in the order of loading.</summary>
    public IReadOnlyList<PluginStatus> All
    {
        get
        {
            lock (_lock)
                return [.. _statuses];
        }
    }

    /// <summary>The words that name devices, in alphabetical order.</summary>
    public IReadOnlyList<string> DeviceWords => Words(static p => p.DeviceWords);

    /// <summary>Those device words that name files on devices, in alphabetical order.</summary>
    public IReadOnlyList<string> FileWords => Words(static p => p.Files.Select(static f => f.Word));

    /// <summary>The words that name exporters, in alphabetical order.</summary>
    public IReadOnlyList<string> ExporterWords => Words(static p => p.ExporterWords);

    /// <summary>
    /// Loads every plugin below a folder, in alphabetical order of their folders; names that begin with a dot are passed over, so that a
    /// new version can be unpacked beside and renamed into place. A plugin that is refused does not keep the others from being loaded, and one
    /// that is loaded from its folder already stays as it is.
    /// </summary>
    /// <param name="folder">The folder of the plugins' folders.</param>
    /// <returns>One entry per plugin folder, also for those that were loaded already.</returns>
    /// <exception cref="DmaBufIoException">The folder is missing (<c>ENOENT</c>) or is none (<c>EINVAL</c>).</exception>
    public IReadOnlyList<PluginStatus> LoadAll(string folder)
    {
        string path = Existing(folder);
        PluginStatus[] found =
        [
            .. Directory.GetDirectories(path)
                .Where(static d => !Path.GetFileName(d).StartsWith('.'))
                .Order(StringComparer.Ordinal)
                .Select(LoadIfNew),
        ];
        if (found.Length == 0)
            _logger.PluginFolderEmpty(path);
        return found;
    }

    /// <summary>Loads one plugin. What was known of an earlier attempt from this folder is replaced.</summary>
    /// <param name="folder">
    /// The plugin's own folder: <c>NAME/NAME.dll</c>, or a folder with exactly one deps.json, whose assembly is the entry.
    /// </param>
    /// <returns>What became of it; a refusal is told here and not thrown.</returns>
    /// <exception cref="DmaBufIoException">A plugin from this folder is loaded already (<c>EEXIST</c>).</exception>
    public PluginStatus Load(string folder)
    {
        string path = Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder));
        return Change(() => LoadAndTell(path));
    }

    internal PluginStatus AddBuiltIn(string typeName, Func<IDmaBufIoPlugin> create)
    {
        lock (_loading)
            return Take(new PluginStatus(typeName, PluginState.Refused), draft => _activator.BuiltIn(draft, create));
    }

    /// <summary>Finds the first plugin that has something, and keeps it from being unloaded.</summary>
    /// <exception cref="DmaBufIoException">It is being drained (<c>EBUSY</c>).</exception>
    internal (T Found, PluginUse Use)? Find<T>(Func<LoadedPlugin, T?> pick)
        where T : class
    {
        lock (_lock)
        {
            ThrowIfOver();
            foreach (LoadedPlugin plugin in _plugins)
            {
                if (pick(plugin) is T found)
                    return plugin.IsDraining ? throw IsLeaving(plugin) : (found, BeginUse(plugin));
            }
        }

        return null;
    }

    /// <summary>Every driver in load order, also of plugins that are being drained, each keeping its plugin; the caller ends the uses it does not need.</summary>
    internal IReadOnlyList<(IPciDriver Driver, PluginUse Use)> Drivers()
    {
        lock (_lock)
        {
            ThrowIfOver();
            return [.. _plugins.SelectMany(p => p.Drivers.Select(d => (d, BeginUse(p))))];
        }
    }

    internal void AddBuffer(LoadedPlugin plugin, DmaBuf buffer)
    {
        buffer.Freed += _released;
        lock (_lock)
            plugin.AddBuffer(buffer);
    }

    internal PluginUse BeginUseAgain(LoadedPlugin plugin)
    {
        lock (_lock)
            return BeginUse(plugin);
    }

    internal void EndUse(LoadedPlugin plugin)
    {
        bool isLast;
        lock (_lock)
            isLast = --plugin.Devices == 0;
        if (!isLast)
            return;
        _progress.WakeAll();
        _released();
    }

    internal static DmaBufIoException IsLeaving(LoadedPlugin plugin) => new(
        Errno.EBUSY,
        "Hosting",
        $"plugin {plugin.Status.Name}",
        "it is being drained, to be unloaded or reloaded",
        "Try again when that is over");

    /// <summary>The full path of a plugin folder that is there.</summary>
    /// <exception cref="DmaBufIoException">It is missing (<c>ENOENT</c>) or is none (<c>EINVAL</c>).</exception>
    internal static string Existing(string folder)
    {
        string path = Path.GetFullPath(folder);
        if (File.Exists(path))
            throw new DmaBufIoException(Errno.EINVAL, "Hosting", $"plugin folder {path}", "it is a file", Remedy);
        return Directory.Exists(path) ? path
            : throw new DmaBufIoException(Errno.ENOENT, "Hosting", $"plugin folder {path}", "there is no such folder", Remedy);
    }

    private static string Remedy =>
        $"Build the plugins, and name their folder: option {nameof(DmaBufIoOptions.PluginFolder)}, "
        + $"configuration key {DmaBufIoOptions.SectionName}:{nameof(DmaBufIoOptions.PluginFolder)}";

    private static string Count(int number, string what) => number == 1 ? $"1 {what}" : $"{number} {what}s";

    private PluginStatus LoadIfNew(string path) => Change(() => LoadedFrom(path) ?? LoadAndTell(path));

    private PluginStatus? LoadedFrom(string path) => All.FirstOrDefault(s => s.Folder == path && s.State != PluginState.Refused);

    private PluginStatus LoadAndTell(string path)
    {
        PluginStatus status = LoadFrom(path);
        Tell(new PluginChangedEventArgs(status.State == PluginState.Loaded ? PluginChange.Loaded : PluginChange.Refused, status) { Reason = status.Reason });
        return status;
    }

    private PluginStatus LoadFrom(string path)
    {
        if (LoadedFrom(path) is not null)
            throw new DmaBufIoException(
                Errno.EEXIST,
                "Hosting",
                $"plugin folder {path}",
                "its plugin is loaded already",
                "Unload it first, or reload it");
        return Take(new PluginStatus(Path.GetFileName(path), PluginState.Refused) { Folder = path }, _activator.FromFolder);
    }

    private PluginStatus Take(PluginStatus status, Func<PluginDraft, LoadedPlugin> activate)
    {
        var draft = new PluginDraft(status);
        LoadedPlugin? plugin = null;
        PluginStatus result;
        try
        {
            plugin = ActivateUnique(draft, activate);
            result = plugin.Status;
        }
        catch (Exception e)
        {
            // Whatever a plugin throws while it is loaded is the reason why it is refused; the others go on.
            result = draft.Refuse(Reason(e));
        }

        lock (_lock)
        {
            _statuses.RemoveAll(s => s.Folder is not null && s.Folder == result.Folder);
            _statuses.Add(result);
            if (plugin is not null)
                _plugins.Add(plugin);
        }

        if (plugin is not null)
            _logger.PluginLoaded(result.Name, result.Version, result.Folder ?? "built in", string.Join(", ", result.Words));
        else
            _logger.PluginRefused(result.Name, result.Folder ?? "built in", result.Reason!);
        return result;
    }

    private static string Reason(Exception e) => e switch
    {
        DmaBufIoException known => $"{known.Problem}. {known.Remedy}.",
        BadImageFormatException => $"an assembly of it is not a whole .NET assembly ({e.Message}). Build or copy it again.",
        _ => $"{e.GetType().Name}: {e.Message}",
    };

    private LoadedPlugin ActivateUnique(PluginDraft draft, Func<PluginDraft, LoadedPlugin> activate)
    {
        LoadedPlugin plugin = activate(draft);
        try
        {
            CheckUnique(plugin);
            return plugin;
        }
        catch
        {
            plugin.Unload();
            throw;
        }
    }

    private void CheckUnique(LoadedPlugin plugin)
    {
        string name = plugin.Status.Name;
        lock (_lock)
        {
            if (_plugins.Find(p => p.Status.Name == name) is LoadedPlugin same)
                throw PluginDraft.Refused(
                    name,
                    $"the name '{name}' is taken by the plugin from {same.Status.Folder ?? "the host application"}",
                    "Remove one of the two");
            CheckWords(plugin, "device", static p => p.DeviceWords);
            CheckWords(plugin, "exporter", static p => p.ExporterWords);
        }
    }

    private void CheckWords(LoadedPlugin plugin, string kind, Func<LoadedPlugin, IEnumerable<string>> words)
    {
        string name = plugin.Status.Name;
        var own = new HashSet<string>(StringComparer.Ordinal);
        foreach (string word in words(plugin))
        {
            if (!own.Add(word))
                throw PluginDraft.Refused(
                    name,
                    $"two of its factories have the {kind} word '{word}'",
                    "Give each factory a word of its own");
            if (_plugins.Find(p => words(p).Contains(word, StringComparer.Ordinal)) is LoadedPlugin other)
                throw PluginDraft.Refused(
                    name,
                    $"the {kind} word '{word}' is taken by plugin {other.Status.Name}",
                    "Remove one of the two");
        }
    }

    private LoadedPlugin Named(string name)
    {
        LoadedPlugin plugin = _plugins.Find(p => p.Status.Name == name)
            ?? _plugins.Find(p => p.Status.Folder is string folder && Path.GetFileName(folder) == name)
            ?? throw new DmaBufIoException(
                Errno.ENOENT,
                "Hosting",
                $"plugin {name}",
                "no such plugin is loaded",
                $"Name one of: {string.Join(", ", _plugins.Select(static p => p.Status.Name))}");
        if (plugin.Status.IsBuiltIn)
            throw new DmaBufIoException(
                Errno.EPERM,
                "Hosting",
                $"plugin {name}",
                "it is part of the host application and cannot be unloaded",
                "Unload plugins that come from a folder");
        return plugin;
    }

    private PluginUse BeginUse(LoadedPlugin plugin)
    {
        plugin.Devices++;
        return new PluginUse(this, plugin);
    }

    private string[] Words(Func<LoadedPlugin, IEnumerable<string>> words)
    {
        lock (_lock)
            return [.. _plugins.SelectMany(words).Order(StringComparer.Ordinal)];
    }
}
