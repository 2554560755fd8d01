using System.Runtime.CompilerServices;

namespace DmaBufIo.Sync;

/// <summary>Work to be done by a <see cref="WorkQueue"/>. The item is its own queue node, so queuing allocates nothing.</summary>
public abstract class WorkItem
{
    internal WorkItem? Next { get; set; }

    internal bool IsQueued { get; set; }

    /// <summary>Its place in the order of queuing. Guarded by the queue's lock.</summary>
    internal long Sequence { get; set; }

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
    private readonly long[] _running; // by worker: the sequence of the item it runs, 0 for none
    private readonly long _number = SchedulePoint.NewObject();
    private WorkItem? _head;
    private WorkItem? _tail;
    private int _threads;
    private int _idle;
    private long _queued;
    private bool _stopping;

    /// <summary>Creates the queue and its first worker.</summary>
    /// <param name="name">The threads' name.</param>
    /// <param name="maxThreads">At most this many workers, 1 or more.</param>
    public WorkQueue(string name, int maxThreads)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxThreads);
        _name = name;
        _maxThreads = maxThreads;
        _running = new long[maxThreads];
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
            item.Sequence = ++_queued;
        }

        _workers.WakeAll();
        return true;
    }

    /// <summary>Waits until everything queued before the call has run; not for what is queued later, though that may finish earlier.</summary>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns>False when cancelled.</returns>
    public bool Flush(CancellationToken cancellationToken = default)
    {
        long target = Volatile.Read(ref _queued);
        return _flushers.Wait(() => HasFinished(target), new WaitReason($"work queue {_name}"), cancellationToken) == Errors.Errno.Ok;
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
        new Thread(Work) { IsBackground = true, Name = $"{_name}/{_threads}" }.UnsafeStart(); // without the caller's execution context
    }

    private void Work()
    {
        do
        {
            _workers.Wait(HasWork, new WaitReason("work") { IsIdle = true });
        }
        while (RunNext());
    }

    // A method of its own: the stack of a worker that waits for work keeps nothing of a finished item, and through it a plugin, alive.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool RunNext()
    {
        WorkItem item;
        int place;
        lock (_lock)
        {
            if (_head is null)
                return !_stopping;
            item = _head;
            _head = item.Next;
            if (_head is null)
                _tail = null;
            item.Next = null;
            item.IsQueued = false;
            place = Array.IndexOf(_running, 0);
            _running[place] = item.Sequence;
            _idle--;
            if (_idle == 0 && _threads < _maxThreads && !_stopping)
                StartWorker();
        }

        item.Run();
        lock (_lock)
            _running[place] = 0;
        _flushers.WakeAll();
        lock (_lock)
        {
            if (_idle >= 2)
            {
                _threads--;
                return false;
            }

            _idle++;
            return true;
        }
    }

    private bool HasFinished(long target)
    {
        lock (_lock)
            return (_head is null || _head.Sequence > target) && !Array.Exists(_running, running => running != 0 && running <= target);
    }

    private bool HasWork()
    {
        lock (_lock)
            return _head is not null || _stopping;
    }
}
