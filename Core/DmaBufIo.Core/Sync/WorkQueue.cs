namespace DmaBufIo.Sync;

/// <summary>Work to be done by a <see cref="WorkQueue"/>. The item is its own queue node, so queuing allocates nothing.</summary>
public abstract class WorkItem
{
    internal WorkItem? Next { get; set; }

    internal bool IsQueued { get; set; }

    /// <summary>Does the work, on a worker thread; may sleep. An exception ends the process: there is nobody to tell.</summary>
    protected internal abstract void Run();
}

/// <summary>
/// Threads that do work which its originator may not do itself: completion context may not sleep (T8, T10).
/// </summary>
/// <remarks>
/// Protocol. Before a worker runs an item it makes sure that another worker is idle (up to the limit of threads). So queuing never starts a
/// thread, and an item that blocks on a reservation lock does not keep the next one waiting (D2b) until all threads are blocked.
/// </remarks>
public sealed class WorkQueue : IDisposable
{
    private readonly Lock _lock = new();
    private readonly WaitQueue _workers = new();
    private readonly WaitQueue _flushers = new();
    private readonly string _name;
    private readonly int _maxThreads;
    private readonly long _number = SchedulePoint.NewObject();
    private WorkItem? _head;
    private WorkItem? _tail;
    private int _threads;
    private int _idle;
    private long _queued;
    private long _finished;
    private bool _stopping;

    /// <summary>Creates the queue and its first worker.</summary>
    /// <param name="name">The threads' name.</param>
    /// <param name="maxThreads">At most this many workers, 1 or more.</param>
    public WorkQueue(string name, int maxThreads)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxThreads);
        _name = name;
        _maxThreads = maxThreads;
        lock (_lock)
            StartWorker();
    }

    /// <summary>Queues an item. Does not block, allocate or start a thread; callable from completion context.</summary>
    /// <param name="item">The item.</param>
    /// <returns>False when the item is queued already and not started yet: it will run once.</returns>
    public bool Queue(WorkItem item)
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.QueueWork, _number);
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_stopping, this);
            if (item.IsQueued)
                return false;
            item.IsQueued = true;
            if (_tail is null)
                _head = item;
            else
                _tail.Next = item;
            _tail = item;
            _queued++;
        }

        _workers.WakeAll();
        return true;
    }

    /// <summary>Waits until everything queued before the call has run.</summary>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns>False when cancelled.</returns>
    public bool Flush(CancellationToken cancellationToken = default)
    {
        long target = Volatile.Read(ref _queued);
        return _flushers.Wait(() => Volatile.Read(ref _finished) >= target, new WaitReason($"work queue {_name}"), cancellationToken) == Errors.Errno.Ok;
    }

    /// <summary>Lets the workers finish what is queued and ends them. Does not wait for them.</summary>
    public void Dispose()
    {
        lock (_lock)
            _stopping = true;
        _workers.WakeAll();
    }

    private void StartWorker()
    {
        _threads++;
        _idle++;
        new Thread(Work) { IsBackground = true, Name = $"{_name}/{_threads}" }.Start();
    }

    private void Work()
    {
        while (true)
        {
            _workers.Wait(HasWork, new WaitReason("work") { IsIdle = true });
            WorkItem item;
            lock (_lock)
            {
                if (_head is null)
                {
                    if (_stopping)
                        return;
                    continue;
                }

                item = _head;
                _head = item.Next;
                if (_head is null)
                    _tail = null;
                item.Next = null;
                item.IsQueued = false;
                _idle--;
                if (_idle == 0 && _threads < _maxThreads && !_stopping)
                    StartWorker();
            }

            item.Run();

            // Not even this thread's stack keeps a finished item, and through it a plugin, alive.
            item = null!;
            Interlocked.Increment(ref _finished);
            _flushers.WakeAll();
            lock (_lock)
            {
                if (_idle >= 2)
                {
                    _threads--;
                    return;
                }

                _idle++;
            }
        }
    }

    private bool HasWork()
    {
        lock (_lock)
            return _head is not null || _stopping;
    }
}
