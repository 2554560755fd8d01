using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.Hosting;

/// <content>The end: devices, then buffers, then plugins, then the fabric; what others are in the middle of has its time, and is left where that is not enough.</content>
public sealed partial class DmaBufIoHost
{
    // Long for closing, which ends requests instead of waiting for them; short for whoever has asked the application to end.
    private static readonly TimeSpan s_grace = TimeSpan.FromSeconds(5);

    /// <summary>
    /// Closes every open device, the newest first, then drops the host's references to buffers. The plugins stay. May sleep.
    /// </summary>
    /// <exception cref="AggregateException">
    /// Several failed; a single failure is thrown as it is. Everything was closed either way.
    /// </exception>
    public void CloseAll()
    {
        using var owned = new OwnedStack();
        foreach (ExportedBuffer buffer in Buffers)
            owned.Push(buffer);
        foreach (OpenedDevice device in Devices)
            owned.Push(device);
    }

    /// <summary>
    /// Closes everything: devices, buffers, plugins, and the fabric where the host made it. Idempotent. Where somebody else is closing a device, or is in the code of a plugin, and does not come to an end,
    /// that is left after some seconds with the plugins and the fabric as they are: nothing is unloaded under a device, nor under code that runs.
    /// </summary>
    /// <exception cref="AggregateException">As <see cref="CloseAll"/>.</exception>
    public void Dispose()
    {
        lock (_starting)
        {
            lock (_lock)
            {
                if (_disposed)
                    return;
                _disposed = true;
            }
        }

        Plugins.Close();
        EndDrains();
        using var all = new OwnedStack();
        all.Push(_ending);
        all.Push(new Ending(() => _logger.Stopped()));
        all.Push(new Ending(EndPlugins));
        all.Push(new Ending(CloseAll));
    }

    /// <summary>
    /// The application has ended its part: lets requests in flight end by themselves, as long as there is time, then closes devices and buffers.
    /// </summary>
    /// <param name="cancellationToken">The time to stop is up: what is in flight is ended by closing its device.</param>
    /// <exception cref="OperationCanceledException">A device has not closed in the time, nor in some seconds more.</exception>
    internal async Task StopAsync(CancellationToken cancellationToken)
    {
        if (_disposed)
            return;
        EndDrains();
        await Task.Run(() => AwaitRequests(cancellationToken), CancellationToken.None).ConfigureAwait(false);
        var closing = Task.Run(CloseAll, CancellationToken.None);
        try
        {
            await closing.WaitAsync(cancellationToken).ConfigureAwait(false);
            return;
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            // Closing ends requests and waits for nothing else: it has its own time, or requests that were given all of it would leave none.
            await Task.WhenAny(closing, Task.Delay(s_grace, Options.TimeProvider, CancellationToken.None)).ConfigureAwait(false);
            if (!closing.IsCompleted)
            {
                _logger.StillClosing(WhatIsLeft());
                throw;
            }
        }

        // It has ended, however late it was: what it says counts, and not the time.
        await closing.ConfigureAwait(false);
    }

    /// <summary>
    /// Whatever waits for something of the plugins goes on: a drain has no other limit, where the application gives none, and the watch may wait for it. What the watch is doing ends by itself and is not
    /// waited for; <see cref="EndPlugins"/> waits for the code of plugins that it may be in.
    /// </summary>
    private void EndDrains()
    {
        _watcher?.Dispose();
        _ending.Cancel();
    }

    private void AwaitRequests(CancellationToken limit)
    {
        int requests = Rings.InFlight;
        if (requests != 0)
            _logger.StoppingWaits(requests, Rings.Rings.Count);
        if (Rings.WaitIdle(limit) != Errno.Ok)
            _logger.RequestsLeft(Rings.InFlight, string.Join(", ", Rings.Rings.Where(static r => r.InFlight > 0).Select(static r => r.Name)));
    }

    private void EndPlugins()
    {
        // The stop may have left a device to itself that does not close, and a thread that has begun to open one may be in a plugin's code.
        using var limit = new CancellationTokenSource(s_grace, Options.TimeProvider);
        if (_progress.Wait(() => Devices.Count == 0 && Plugins.IsIdle, new WaitReason("devices that are being closed", WhatIsLeft), limit.Token) != Errno.Ok)
        {
            _logger.StillClosing(WhatIsLeft());
            return;
        }

        using var rest = new OwnedStack();
        if (Options.OwnsFabric && _fabric is IDisposable fabric)
            rest.Push(fabric);
        rest.Push(_owned);
        rest.Push(new Ending(Plugins.UnloadAll));
    }

    private string WhatIsLeft()
    {
        string devices = string.Join(", ", Devices.Select(static d => d.Name));
        return devices.Length != 0 ? devices : Plugins.WhatRuns();
    }

    private sealed class Ending(Action action) : IDisposable
    {
        public void Dispose() => action();
    }
}
