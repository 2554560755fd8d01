namespace DmaBufIo.Hosting;

/// <content>
/// One change after the other, each told when it has happened; and the end of all changes. A change may last: a drain waits, and the code of a plugin that is loaded or unloaded may do what it likes. So the end
/// does not wait for <see cref="_loading"/>, but until no change is under way, for as long as it has time.
/// </content>
public sealed partial class PluginManager
{
    private bool _telling;

    /// <summary>
    /// Raised after each change, and before a plugin is drained; by whoever makes the change, on that thread, one at a time. Handlers must not block, and must not load or unload plugins
    /// (<see cref="InvalidOperationException"/>); what they throw is logged, and the others are told all the same.
    /// </summary>
    public event EventHandler<PluginChangedEventArgs>? PluginChanged;

    /// <summary>No code of a plugin runs for the host, nor will after <see cref="Close"/>: no use, and no change.</summary>
    internal bool IsIdle
    {
        get
        {
            lock (_lock)
                return _changes == 0 && _plugins.TrueForAll(static p => p.Devices == 0);
        }
    }

    /// <summary>The host ends: from here on plugins are neither found nor changed (<see cref="ObjectDisposedException"/>). What has begun goes on.</summary>
    internal void Close()
    {
        lock (_lock)
            _isOver = true;
    }

    /// <summary>Why it is not idle, for people.</summary>
    internal string WhatRuns()
    {
        lock (_lock)
        {
            IEnumerable<string> uses = _plugins.Where(static p => p.Devices != 0).Select(static p => $"code of plugin {p.Status.Name}");
            return string.Join(", ", _changes == 0 ? uses : uses.Append("a plugin that is being loaded or unloaded"));
        }
    }

    /// <summary>Unloads everything, the newest first, whatever is alive: the host is going. It is closed and idle.</summary>
    internal void UnloadAll()
    {
        using var owned = new OwnedStack();
        lock (_lock)
        {
            foreach (LoadedPlugin plugin in _plugins)
                owned.Push(new Unloading(plugin));
            _plugins.Clear();
            _statuses.Clear();
        }
    }

    private T Change<T>(Func<T> change)
    {
        lock (_lock)
        {
            ThrowIfOver();
            _changes++;
        }

        try
        {
            lock (_loading)
            {
                if (_telling)
                    throw new InvalidOperationException($"A handler of {nameof(PluginChanged)} may not load or unload plugins: it is told in the middle of that.");
                return change();
            }
        }
        finally
        {
            lock (_lock)
                _changes--;
            _progress.WakeAll();
        }
    }

    // With _lock held.
    private void ThrowIfOver() => ObjectDisposedException.ThrowIf(_isOver, typeof(DmaBufIoHost));

    // With _loading held, so one after the other.
    private void Tell(PluginChangedEventArgs change)
    {
        _telling = true;
        try
        {
            foreach (EventHandler<PluginChangedEventArgs> handler in PluginChanged?.GetInvocationList() ?? [])
                Tell(handler, change);
        }
        finally
        {
            _telling = false;
        }
    }

    private void Tell(EventHandler<PluginChangedEventArgs> handler, PluginChangedEventArgs change)
    {
        try
        {
            handler(this, change);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // The change has happened, and neither the plugins nor the other listeners are left half-way for a listener's mistake.
            _logger.PluginHandlerFault(change.Change, change.Plugin.Name, e);
        }
    }

    private sealed class Unloading(LoadedPlugin plugin) : IDisposable
    {
        public void Dispose() => plugin.Unload();
    }
}
