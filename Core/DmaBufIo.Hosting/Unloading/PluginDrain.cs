using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Sync;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Hosting;

/// <summary>
/// Ends what keeps a plugin from being unloaded: closes devices, drops the host's references to buffers, and waits for those of others. What was closed stays closed, also when
/// something else is left in the end.
/// </summary>
internal sealed class PluginDrain(
    LoadedPlugin plugin, Func<IReadOnlyList<OpenedDevice>> devices, Func<IReadOnlyList<ExportedBuffer>> buffers, ILogger logger)
{
    // References are dropped by workers and by the application, and nobody tells of it.
    private static readonly TimeSpan s_betweenLooks = TimeSpan.FromMilliseconds(1);

    private readonly HashSet<OpenedDevice> _closing = new(ReferenceEqualityComparer.Instance);
    private readonly List<string> _closed = [];
    private readonly List<string> _dropped = [];

    /// <summary>Names of the devices that were closed, in the order of closing.</summary>
    internal IReadOnlyList<string> Closed => _closed;

    /// <summary>Names of the buffers whose reference was dropped.</summary>
    internal IReadOnlyList<string> Dropped => _dropped;

    /// <summary>Drains until nothing is left, or the limit is reached.</summary>
    /// <param name="isOver">True, once, when nothing is left: from then on nobody finds the plugin.</param>
    /// <param name="limit">Ends the wait.</param>
    /// <returns>False when something is left.</returns>
    internal bool Run(Func<bool> isOver, CancellationToken limit)
    {
        var nobody = new WaitQueue();
        var reason = new WaitReason($"end of what keeps plugin {plugin.Status.Name}");
        while (!isOver())
        {
            if (limit.IsCancellationRequested)
                return false;

            // Each time anew: a device that was being opened when the drain began comes late.
            foreach (OpenedDevice device in devices().Where(d => d.Root.IsMadeBy(plugin.Status.Name)).Reverse())
            {
                if (_closing.Add(device) && !Close(device, limit))
                    return false;
            }

            foreach (ExportedBuffer buffer in buffers().Where(b => b.PluginName == plugin.Status.Name).Reverse())
                Drop(buffer);
            _ = nobody.Wait(static () => false, reason, limit, slice: s_betweenLooks);
        }

        return true;
    }

    /// <summary>What is left, for people: names of devices, of buffers, and of the tokens and files that hold them.</summary>
    /// <param name="uses">Uses of the plugin that have not ended.</param>
    /// <param name="living">Its buffers, with the references that are left.</param>
    /// <param name="closing">The devices that are open.</param>
    internal static string Describe(int uses, IReadOnlyList<(string Name, int References)> living, IEnumerable<string> closing)
    {
        Snapshot snapshot = DmaBufIoDiagnostics.Snapshot();
        var parts = new List<string>();
        string[] devices = [.. closing];
        if (devices.Length != 0)
        {
            string waits = string.Join("; ", snapshot.Waits.Where(static w => w.Thread.StartsWith(ClosingPrefix, StringComparison.Ordinal)).Select(static w => w.WaitsFor));
            parts.Add($"{string.Join(", ", devices)} not closed{(waits.Length == 0 ? "" : $", waiting for {waits}")}");
        }
        else if (uses != 0)
        {
            parts.Add($"{uses} uses of it not ended");
        }

        foreach ((string name, int references) in living)
        {
            string tokens = string.Join(", ", snapshot.Tokens.Where(t => t.Buffer == name).Select(static t => $"{t.Token} of file {t.File}"));
            parts.Add(tokens.Length == 0 ? $"buffer {name} held by {references} references" : $"buffer {name} held by {tokens}");
        }

        return string.Join("; ", parts);
    }

    private const string ClosingPrefix = "closing of ";

    /// <summary>
    /// Closing waits for requests and maps without a limit of its own. On a thread that can be left alone with it: then the device is closed when it is closed.
    /// </summary>
    private bool Close(OpenedDevice device, CancellationToken limit)
    {
        var done = new Completion();
        new Thread(() =>
        {
            CloseGuarded(device);
            done.Complete();
        })
        {
            IsBackground = true,
            Name = $"{ClosingPrefix}{device.Name}",
        }.UnsafeStart();

        // Disposing returns at once where somebody else is at it, the drain before this one perhaps: that is not closed.
        var reason = new WaitReason($"closing of device {device.Name}");
        if (done.Wait(reason, limit) != Errno.Ok || device.Ended.Wait(reason, limit) != Errno.Ok)
            return false;
        _closed.Add(device.Name);
        return true;
    }

    private void CloseGuarded(OpenedDevice device)
    {
        try
        {
            device.Dispose();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // Everything was let go of all the same: the plugin can go, and its mistake is told.
            logger.DeviceCloseFailed(device.Name, e);
        }
    }

    private void Drop(ExportedBuffer buffer)
    {
        _dropped.Add(buffer.Name);
        try
        {
            buffer.Dispose();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            logger.BufferDropFailed(buffer.Name, e);
        }
    }
}
