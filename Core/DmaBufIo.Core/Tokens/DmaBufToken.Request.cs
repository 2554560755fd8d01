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
    /// Has a worker make a map when there is none (T7). Does not sleep; any context. Nobody holds a reference for the caller: it takes one by
    /// <see cref="TryGetMap"/> once it was told, and asks again when the map was killed meanwhile.
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
        Errno status = MakeAndDrop();
        IMapWaiter[] waiters;
        lock (_lock)
        {
            // Who asks from here on has seen no map after this one, and gets a worker of his own.
            waiters = [.. _mapWaiters];
            _mapWaiters.Clear();
            _isMapRequested = false;
        }

        foreach (IMapWaiter waiter in waiters)
            Guarded($"MapReady of {waiter} ({Name})", () => waiter.MapReady(this, status));
    }

    private Errno MakeAndDrop()
    {
        try
        {
            using var context = new IoContext($"map request of {Name}");
            Errno status = GetMap(context, out DmaMap? map);
            if (status == Errno.Ok)
            {
                Drop(map!, context);
                context.Leave();
            }

            return status;
        }
        catch (DmaBufIoException e)
        {
            return e.Errno; // no context is left
        }
    }

    private sealed class RequestItem(DmaBufToken token) : WorkItem
    {
        protected internal override void Run() => token.MakeRequestedMap();
    }
}
