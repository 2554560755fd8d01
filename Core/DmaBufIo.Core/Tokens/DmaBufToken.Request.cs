using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Sync;

namespace DmaBufIo.Tokens;

/// <content>Having a map made by a worker (T12), for those who may not sleep: devices with engines of their own.</content>
public sealed partial class DmaBufToken
{
    private readonly List<IMapWaiter> _mapWaiters = []; // guarded by _lock
    private RequestItem? _mapRequest;
    private bool _isMapRequested;

    /// <summary>
    /// Has a worker make a map when there is none (T7). Does not sleep; any context. The map is the caller's to use while it is told; later it takes references by
    /// <see cref="TryGetMap"/>, and asks again when there is none.
    /// </summary>
    /// <param name="waiter">Told when there is a map, or when none can be made. One that waits already is told once.</param>
    public void RequestMap(IMapWaiter waiter)
    {
        RequestItem item;
        lock (_lock)
        {
            if (!_mapWaiters.Contains(waiter))
                _mapWaiters.Add(waiter);
            if (_isMapRequested)
                return;
            _isMapRequested = true;
            item = _mapRequest ??= new RequestItem(this);
        }

        MapWorkers.Queue.Queue(item);
    }

    private void MakeRequestedMap()
    {
        try
        {
            using var context = new IoContext($"map request of {Name}");
            Errno status = GetMap(context, out DmaMap? map);
            if (status != Errno.Ok)
            {
                TellFailed(status);
                return;
            }

            TellReady(map!, context);
            Drop(map!, context);
            context.Leave();
        }
        catch (DmaBufIoException e)
        {
            TellFailed(e.Errno); // no context is left
        }
    }

    private void TellReady(DmaMap map, IoContext context)
    {
        foreach (IMapWaiter waiter in TakeMapWaiters())
            Guarded($"MapReady of {waiter} ({Name})", () => waiter.MapReady(this, map, context));
    }

    private void TellFailed(Errno status)
    {
        foreach (IMapWaiter waiter in TakeMapWaiters())
            Guarded($"MapFailed of {waiter} ({Name})", () => waiter.MapFailed(this, status));
    }

    private IMapWaiter[] TakeMapWaiters()
    {
        lock (_lock)
        {
            // Who asks from here on gets a worker of his own.
            IMapWaiter[] waiters = [.. _mapWaiters];
            _mapWaiters.Clear();
            _isMapRequested = false;
            return waiters;
        }
    }

    private sealed class RequestItem(DmaBufToken token) : WorkItem
    {
        protected internal override void Run() => token.MakeRequestedMap();
    }
}
