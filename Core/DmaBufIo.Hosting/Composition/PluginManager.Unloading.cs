using DmaBufIo.Errors;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Hosting;

/// <content>
/// Unloading and reloading. While a plugin is being drained, it is listed as <see cref="PluginState.Draining"/>, its words stay known and answer <c>EBUSY</c>; loading and unloading of
/// others waits for the end. Then it is gone as a whole, or loaded as before.
/// </content>
public sealed partial class PluginManager
{
    /// <summary>Unloads a plugin: its words are gone, its scope is disposed with everything in it, its load context is given up.</summary>
    /// <param name="name">The plugin's name, or that of its folder.</param>
    /// <returns>Tells when its memory has been given back.</returns>
    /// <exception cref="DmaBufIoException">
    /// No such plugin (<c>ENOENT</c>), it is built in (<c>EPERM</c>), or devices or buffers made by it are alive (<c>EBUSY</c>, with their
    /// numbers).
    /// </exception>
    public UnloadedPlugin Unload(string name) => Unload(name, UnloadPolicy.Refuse);

    /// <summary>Unloads a plugin, by a policy towards what is alive of it. One that throws while it is disposed is gone all the same, and what it threw is logged.</summary>
    /// <param name="name">The plugin's name, or that of its folder.</param>
    /// <param name="policy">
    /// Whether to close what is alive. Requests in flight on a device that is closed end once, with an error (T11); tokens for it answer <c>ENODEV</c> from then on, and
    /// end when the application removes their registrations, which keep the plugin's memory until then. Registrations of its buffers are the application's to remove.
    /// </param>
    /// <param name="cancellationToken">
    /// The limit of <see cref="UnloadPolicy.Drain"/>: when it is cancelled, the plugin stays loaded, without the devices and references that were given up by then. A device that
    /// does not close goes on closing, and is counted until it has. Without a limit it may wait for ever, or until the host ends.
    /// </param>
    /// <returns>Tells what was closed, and when the plugin's memory has been given back.</returns>
    /// <exception cref="DmaBufIoException">
    /// No such plugin (<c>ENOENT</c>), it is built in (<c>EPERM</c>), or devices or buffers made by it are alive (<c>EBUSY</c>): their numbers, or what has kept it to the limit: devices,
    /// buffers, and the tokens and files that hold them.
    /// </exception>
    public UnloadedPlugin Unload(string name, UnloadPolicy policy, CancellationToken cancellationToken = default)
    {
        return Change(() =>
        {
            PluginStatus status = ToGo(name);
            UnloadedPlugin unloaded = TakeOut(name, policy, cancellationToken);
            Tell(new PluginChangedEventArgs(PluginChange.Unloaded, status) { Unloaded = unloaded });
            return unloaded;
        });
    }

    /// <summary>Unloads a plugin and loads what its folder holds now; refuses as <see cref="Reload(string, UnloadPolicy, CancellationToken)"/>.</summary>
    /// <param name="name">The plugin's name, or that of its folder.</param>
    /// <returns>What became of it.</returns>
    public PluginStatus Reload(string name) => Reload(name, UnloadPolicy.Refuse).Status;

    /// <summary>Unloads a plugin and loads what its folder holds now.</summary>
    /// <param name="name">The plugin's name, or that of its folder.</param>
    /// <param name="policy">As for <see cref="Unload(string, UnloadPolicy, CancellationToken)"/>. Devices that were closed are the application's to open again.</param>
    /// <param name="cancellationToken">The limit of <see cref="UnloadPolicy.Drain"/>.</param>
    /// <returns>
    /// What became of it. The new version is looked at before the old one is unloaded: whether its files are whole and what it was built against. One whose own code goes wrong after that is
    /// refused, and no old one is left: the two never run side by side.
    /// </returns>
    /// <exception cref="DmaBufIoException">
    /// As <see cref="Unload(string, UnloadPolicy, CancellationToken)"/>; or the new version does not pass the look: the old one stays loaded, and nothing was closed.
    /// </exception>
    public PluginReload Reload(string name, UnloadPolicy policy, CancellationToken cancellationToken = default)
    {
        return Change(() =>
        {
            PluginStatus old = ToGo(name);
            CheckNew(old);
            UnloadedPlugin unloaded = TakeOut(name, policy, cancellationToken);
            PluginStatus status = LoadFrom(old.Folder!);
            if (status.State == PluginState.Loaded)
            {
                Tell(new PluginChangedEventArgs(PluginChange.Reloaded, status) { Unloaded = unloaded });
            }
            else
            {
                Tell(new PluginChangedEventArgs(PluginChange.Unloaded, old) { Unloaded = unloaded });
                Tell(new PluginChangedEventArgs(PluginChange.Refused, status) { Reason = status.Reason });
            }

            return new PluginReload(unloaded, status);
        });
    }

    /// <summary>Why a folder cannot be loaded yet, because something of it is missing or cut off; null when it is complete.</summary>
    internal string? WhatIsMissing(string folder)
    {
        try
        {
            _activator.Check(folder);
            return null;
        }
        catch (DmaBufIoException e)
        {
            // Anything else about a folder that is whole is a matter of refusing it.
            return e.Errno == Errno.ENOENT ? e.Problem : null;
        }
        catch (Exception e) when (e is BadImageFormatException or InvalidOperationException or IOException)
        {
            return e.Message;
        }
    }

    /// <summary>The plugin from this folder was to go the last time that this was tried, and is kept because something of it was alive.</summary>
    internal bool IsKept(string folder) => Has(folder, static p => p.IsKept);

    /// <summary>Something of the plugin from this folder is alive now.</summary>
    internal bool IsAlive(string folder) => Has(folder, static p => p.IsAlive);

    /// <summary>A folder is gone whose plugin was refused.</summary>
    internal void ForgetRefused(string folder)
    {
        lock (_lock)
            _statuses.RemoveAll(s => s.Folder == folder && s.State == PluginState.Refused);
    }

    private bool Has(string folder, Predicate<LoadedPlugin> what)
    {
        lock (_lock)
            return _plugins.Exists(p => p.Status.Folder == folder && what(p));
    }

    private PluginStatus ToGo(string name)
    {
        lock (_lock)
        {
            LoadedPlugin plugin = Named(name);
            plugin.IsKept = false;
            return plugin.Status;
        }
    }

    private void CheckNew(PluginStatus old)
    {
        try
        {
            _activator.Check(old.Folder!);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            string reason = $"its new version is refused: {Reason(e)}";
            Keep(old, reason);
            var known = e as DmaBufIoException;
            throw new DmaBufIoException(
                known?.Errno ?? Errno.EINVAL,
                "Hosting",
                $"plugin {old.Name}",
                $"its new version is refused, and the old one stays loaded: {known?.Problem ?? Reason(e)}",
                known?.Remedy ?? "Build or copy it again",
                inner: e);
        }
    }

    private UnloadedPlugin TakeOut(string name, UnloadPolicy policy, CancellationToken limit)
    {
        LoadedPlugin plugin;
        int buffers;
        int uses;
        lock (_lock)
        {
            plugin = Named(name);
            buffers = plugin.CountBuffers();
            uses = plugin.Devices;
            if (uses == 0 && buffers == 0)
                Forget(plugin);
            else if (policy == UnloadPolicy.Drain)
                Mark(plugin, PluginState.Draining);
        }

        IReadOnlyList<string> closed = [];
        IReadOnlyList<string> dropped = [];
        if (plugin.IsDraining)
        {
            PluginDrain drain = Drain(plugin, uses, buffers, limit);
            closed = drain.Closed;
            dropped = drain.Dropped;
        }
        else if (uses != 0 || buffers != 0)
        {
            throw Kept(plugin, $"{Count(uses, "device")} and {Count(buffers, "buffer")} made by it are alive", "Close its devices and drop every reference to its buffers first");
        }

        var unloaded = new UnloadedPlugin(plugin.Status.Name, plugin.Context, closed, dropped);
        try
        {
            plugin.Unload();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // It is gone all the same, with everything that did not throw: who asked for that has it, and the mistake is the plugin's.
            _logger.PluginUnloadFailed(plugin.Status.Folder!, e);
        }

        _logger.PluginUnloaded(plugin.Status.Name, plugin.Status.Folder!);
        return unloaded;
    }

    private PluginDrain Drain(LoadedPlugin plugin, int uses, int buffers, CancellationToken limit)
    {
        _logger.PluginDraining(plugin.Status.Name, uses, buffers);
        Tell(new PluginChangedEventArgs(PluginChange.Draining, plugin.Status));
        var drain = new PluginDrain(plugin, _devices, _buffers, _logger);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(limit, _ending);
        if (drain.Run(() => TryForget(plugin), either.Token))
            return drain;

        IReadOnlyList<(string Name, int References)> living;
        lock (_lock)
        {
            uses = plugin.Devices;
            living = plugin.LivingBuffers();
            Mark(plugin, PluginState.Loaded);
        }

        string keeps = PluginDrain.Describe(
            uses, living, _devices().Where(d => d.Root.IsMadeBy(plugin.Status.Name)).Select(static d => $"device {d.Name}"));
        string gone = drain.Closed.Count == 0 ? "" : $"; closed: {string.Join(", ", drain.Closed)}";
        throw Kept(
            plugin, $"it could not be drained in time: {keeps}{gone}", "Remove the registrations and drop the references that are named, and try again");
    }

    private bool TryForget(LoadedPlugin plugin)
    {
        lock (_lock)
        {
            if (plugin.IsAlive)
                return false;
            Forget(plugin);
            return true;
        }
    }

    private void Forget(LoadedPlugin plugin)
    {
        _plugins.Remove(plugin);
        _statuses.Remove(plugin.Status);
    }

    private void Mark(LoadedPlugin plugin, PluginState state)
    {
        int index = _statuses.IndexOf(plugin.Status);
        plugin.Status = plugin.Status with { State = state };
        _statuses[index] = plugin.Status;
    }

    private DmaBufIoException Kept(LoadedPlugin plugin, string problem, string remedy)
    {
        plugin.IsKept = true;
        Keep(plugin.Status, problem);
        return new DmaBufIoException(Errno.EBUSY, "Hosting", $"plugin {plugin.Status.Name}", problem, remedy);
    }

    private void Keep(PluginStatus status, string reason)
    {
        _logger.PluginKept(status.Name, reason);
        Tell(new PluginChangedEventArgs(PluginChange.Kept, status) { Reason = reason });
    }
}
