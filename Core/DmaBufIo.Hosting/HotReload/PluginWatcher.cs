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
    private readonly Lock _lock = new();
    private readonly Dictionary<string, string> _seen = new(StringComparer.Ordinal); // the look's alone
    private volatile bool _isBusy;
    private bool _begun;
    private bool _looking;
    private bool _again;

    /// <summary>Begins to listen, and remembers the folders as they are. Nothing is done before <see cref="Begin"/>.</summary>
    /// <exception cref="DmaBufIoException">The system has no watch left (<c>EMFILE</c>), or the folder may not be read (<c>EACCES</c>).</exception>
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
            NotifyFilter = NotifyFilters.FileName | NotifyFilters.DirectoryName | NotifyFilters.LastWrite | NotifyFilters.Size | NotifyFilters.Attributes, // what may be read now
        };
        _watcher.Created += (_, _) => Touch();
        _watcher.Changed += (_, _) => Touch();
        _watcher.Deleted += (_, _) => Touch();
        _watcher.Renamed += (_, _) => Touch();
        _watcher.Error += (_, _) => Touch(); // events were lost
        try
        {
            _watcher.EnableRaisingEvents = true;
            foreach (string folder in Folders())
                ReadIfPossible(folder, () => _seen[folder] = PluginFolder.Describe(folder));
        }
        catch (Exception e) when (IsUnreadable(e))
        {
            Dispose();
            bool isForbidden = e is UnauthorizedAccessException;
            throw new DmaBufIoException(
                isForbidden ? Errno.EACCES : Errno.EMFILE,
                "Hosting",
                $"plugin folder {root}",
                $"it cannot be watched: {e.Message}",
                isForbidden ? "Give the process the right to read it"
                    : $"Raise fs.inotify.max_user_instances or max_user_watches, or switch {nameof(HotReloadOptions.EnableHotReload)} off",
                inner: e);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The plugins are loaded for the first time: from here on they follow.</summary>
    internal void Begin()
    {
        lock (_lock)
            _begun = true;
        _logger.WatchBegun(_root, _options.UnloadPolicy);
        Touch(); // what has changed since the folders were read
    }

    /// <summary>Something was given up that may have kept a plugin from being unloaded. Takes no lock but the clock's, and waits for nothing.</summary>
    internal void TryAgain()
    {
        if (_isBusy)
            Touch();
    }

    /// <summary>
    /// Ends the watch, and a drain that is under way. A look that is in the code of a plugin, or waits for somebody else's change, is not waited for: it changes nothing more after that. Idempotent.
    /// </summary>
    public void Dispose()
    {
        _watcher.Dispose();
        _timer.Dispose();
        _stop.Cancel();
    }

    private static bool IsUnreadable(Exception e) => e is IOException or UnauthorizedAccessException;

    // Each event pushes the look away: it comes when the folder has been quiet for the delay.
    private void Touch() => _timer.Change(_options.ReloadDelay, Timeout.InfiniteTimeSpan);

    /// <summary>One look at a time; who comes meanwhile is not kept waiting, but has it done again.</summary>
    private void Look()
    {
        lock (_lock)
        {
            if (!_begun)
                return;
            _again = _looking;
            if (_looking)
                return;
            _looking = true;
        }

        try
        {
            _isBusy = false;
            ReadIfPossible(_root, LookAtAll);
        }
        finally
        {
            bool again;
            lock (_lock)
            {
                _looking = false;
                again = _again;
            }

            if (again)
                Touch();
        }
    }

    private void LookAtAll()
    {
        string[] folders = Folders();
        Leave(folders);
        foreach (string folder in folders)
        {
            if (!_stop.IsCancellationRequested)
                ReadIfPossible(folder, () => LookAt(folder));
        }
    }

    private void ReadIfPossible(string folder, Action read)
    {
        try
        {
            read();
        }
        catch (Exception e) when (IsUnreadable(e))
        {
            // Changed while it was looked at, which makes events, or not to be read. It is not seen yet, so each look tries it, and the others are looked at all the same.
            _logger.WatchFailed(folder, e);
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
                Try(folder, limit => _plugins.Unload(status.Name, _options.UnloadPolicy, limit));
        }
    }

    private void LookAt(string folder)
    {
        // Described before anything is read of it: what changes from here on is another look's business.
        string now = PluginFolder.Describe(folder);
        if (_seen.TryGetValue(folder, out string? before) && before == now)
            return;
        string? missing = _plugins.WhatIsMissing(folder);
        _seen[folder] = now;
        if (missing is not null)
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
        catch (DmaBufIoException)
        {
            // The manager's own words, never a plugin's: what it throws at loading is a refusal, and at unloading it is gone. The manager has told that the plugin is kept, and why. Or somebody else was quicker.
        }
        catch (ObjectDisposedException) when (_stop.IsCancellationRequested)
        {
            return; // the host has ended meanwhile
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // Nothing of a plugin's, but of what the application has brought: on this thread it would end the process.
            _seen.Remove(folder);
            _logger.WatchFailed(folder, e);
        }

        if (!_plugins.IsKept(folder))
            return;
        _seen.Remove(folder);
        _isBusy = true;

        // What was given up between the refusal and here was told to nobody.
        Interlocked.MemoryBarrier();
        if (!_plugins.IsAlive(folder))
            Touch();
    }
}
