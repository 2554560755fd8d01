using DmaBufIo.Errors;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Hosting;

/// <summary>
/// Watches the plugin folder and lets the plugins follow. What the file system tells is only a reason to look: a look compares the folders with what they were when they were last dealt with, so nothing
/// depends on which events come, or how many.
/// </summary>
internal sealed class PluginWatcher : IDisposable
{
    private readonly string _root;
    private readonly HotReloadOptions _options;
    private readonly TimeProvider _time;
    private readonly PluginManager _plugins;
    private readonly ILogger _logger;
    private readonly FileSystemWatcher _watcher;
    private readonly ITimer _timer;
    private readonly CancellationTokenSource _stop = new();
    private readonly Lock _looking = new();
    private readonly Dictionary<string, string> _seen = new(StringComparer.Ordinal);
    private volatile bool _isBusy;
    private bool _begun;
    private bool _disposed;

    /// <summary>Begins to listen, and remembers the folders as they are. Nothing is done before <see cref="Begin"/>.</summary>
    /// <exception cref="DmaBufIoException">The system has no watch left (<c>EMFILE</c>).</exception>
    internal PluginWatcher(string root, HotReloadOptions options, TimeProvider time, PluginManager plugins, ILogger logger)
    {
        _root = Path.TrimEndingDirectorySeparator(root);
        _options = options;
        _time = time;
        _plugins = plugins;
        _logger = logger;
        _timer = time.CreateTimer(_ => Look(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        _watcher = new FileSystemWatcher(root)
        {
            IncludeSubdirectories = true,
            NotifyFilter = NotifyFilters.FileName | NotifyFilters.DirectoryName | NotifyFilters.LastWrite | NotifyFilters.Size,
        };
        _watcher.Created += (_, _) => Touch();
        _watcher.Changed += (_, _) => Touch();
        _watcher.Deleted += (_, _) => Touch();
        _watcher.Renamed += (_, _) => Touch();
        _watcher.Error += (_, _) => Touch(); // events were lost
        try
        {
            _watcher.EnableRaisingEvents = true;
        }
        catch (IOException e)
        {
            Dispose();
            throw new DmaBufIoException(
                Errno.EMFILE,
                "Hosting",
                $"plugin folder {root}",
                $"it cannot be watched: {e.Message}",
                $"Raise fs.inotify.max_user_instances or max_user_watches, or switch {nameof(HotReloadOptions.EnableHotReload)} off",
                inner: e);
        }

        foreach (string folder in Folders())
        {
            try
            {
                _seen[folder] = PluginFolder.Describe(folder);
            }
            catch (IOException e)
            {
                // Changed while it was read: not seen yet, so it is looked at after the start.
                _logger.WatchFailed(folder, e);
            }
        }
    }

    /// <summary>The plugins are loaded for the first time: from here on they follow.</summary>
    internal void Begin()
    {
        lock (_looking)
            _begun = true;
        _logger.WatchBegun(_root, _options.UnloadPolicy);
        Touch(); // what has changed since the folders were read
    }

    /// <summary>Something was given up that may have kept a plugin from being unloaded.</summary>
    internal void TryAgain()
    {
        if (_isBusy)
            Touch();
    }

    /// <summary>Ends the watch, and a drain that is under way; waits until nothing is being done. Idempotent.</summary>
    public void Dispose()
    {
        _watcher.Dispose();
        _timer.Dispose();
        _stop.Cancel();
        lock (_looking)
            _disposed = true;
    }

    // Each event pushes the look away: it comes when the folder has been quiet for the delay.
    private void Touch() => _timer.Change(_options.ReloadDelay, Timeout.InfiniteTimeSpan);

    private void Look()
    {
        lock (_looking)
        {
            if (_disposed || !_begun)
                return;
            _isBusy = false;
            try
            {
                string[] folders = Folders();
                Leave(folders);
                foreach (string folder in folders)
                    LookAt(folder);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Changed while it was looked at, which makes events, or not to be read.
                _logger.WatchFailed(_root, e);
            }
        }
    }

    private string[] Folders() =>
        [.. Directory.GetDirectories(_root).Where(static d => !Path.GetFileName(d).StartsWith('.')).Order(StringComparer.Ordinal)];

    /// <summary>What is gone goes first: its name and words may be those of what has come.</summary>
    private void Leave(string[] folders)
    {
        foreach (PluginStatus status in _plugins.All)
        {
            if (status.Folder is not string folder || Path.GetDirectoryName(folder) != _root || folders.Contains(folder, StringComparer.Ordinal))
                continue;
            _seen.Remove(folder);
            if (status.State == PluginState.Refused)
                _plugins.ForgetRefused(folder);
            else
                Try(status.Folder, limit => _plugins.Unload(status.Name, _options.UnloadPolicy, limit));
        }
    }

    private void LookAt(string folder)
    {
        string now = PluginFolder.Describe(folder);
        if (_seen.TryGetValue(folder, out string? before) && before == now)
            return;

        // Remembered as it was before anything is read of it: what changes from here on is another look's business.
        _seen[folder] = now;
        if (_plugins.WhatIsMissing(folder) is string missing)
        {
            _logger.PluginIncomplete(folder, missing);
            return;
        }

        PluginStatus? loaded = _plugins.All.FirstOrDefault(s => s.Folder == folder && s.State != PluginState.Refused);
        Try(folder, limit =>
        {
            if (loaded is null)
                _plugins.Load(folder);
            else
                _plugins.Reload(loaded.Name, _options.UnloadPolicy, limit);
        });
    }

    private void Try(string folder, Action<CancellationToken> change)
    {
        using var time = new CancellationTokenSource(_options.DrainTimeout, _time);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(time.Token, _stop.Token);
        try
        {
            change(limit.Token);
        }
        catch (DmaBufIoException e)
        {
            // The manager has told that it is kept, and why: something of it is alive, or the new version does not pass. Or somebody else was quicker.
            if (e.Errno != Errno.EBUSY)
                return;
            _seen.Remove(folder);
            _isBusy = true;
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // What the old version threw when its scope was disposed: it is gone all the same, and its folder is looked at again.
            _seen.Remove(folder);
            _logger.PluginUnloadFailed(folder, e);
            Touch();
        }
    }
}
