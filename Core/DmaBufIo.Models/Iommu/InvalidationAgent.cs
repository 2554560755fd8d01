using System.Diagnostics;
using System.Runtime.InteropServices;
using DmaBufIo.Sync;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// The IOMMU's own side of a domain's invalidation queue: a thread that executes what the host queued and acknowledges it. Hosts wait
/// here for the acknowledgement; what that costs is the hand-over between two cores and the work on the IOTLB, nothing is added.
/// </summary>
/// <remarks>
/// <para>
/// Who executes. The agent's thread, woken by the doorbell; or, sooner, the device itself, which works the queue off before it
/// translates (see <see cref="TranslatingDomain"/>); or the waiter, under the gate, when nobody else would do it in time: it holds
/// the gate itself, the thread is switched off by option or by a controlled scheduler, or it may not sleep (it runs completions)
/// and has polled for a while. So no waiter depends on itself, and an inline device, which the host's own thread works, needs no
/// exception: the agent never needs that thread, only the gate, which is free between two pieces.
/// </para>
/// <para>
/// The thread starts with the first doorbell and ends with the domain. It is a background thread, polls for a short while after its last
/// work and sleeps then. Doorbell and sleep: the host advances the doorbell (an interlocked operation) and then looks
/// whether the thread sleeps; the thread says that it will sleep (full fence) and then looks at the doorbell once more.
/// </para>
/// </remarks>
internal sealed class InvalidationAgent
{
    // Long enough for a stream of requests to find the other side awake, short enough not to count as load.
    private static TimeSpan PollTime => TimeSpan.FromMicroseconds(50);

    private readonly Lock _starting = new();
    private readonly WaitQueue _idle = new();
    private readonly Completion _ended = new();
    private readonly TranslatingDomain _domain;
    private readonly InvalidationQueue _queue;
    private readonly Func<bool> _mustWake;
    private readonly string _name;
    private readonly bool _hasThread;
    private readonly TimeSpan? _idleFlush;
    private Thread? _thread;
    private Doorbell _doorbell;
    private bool _asleep;
    private bool _timed;
    private bool _flushDue;
    private bool _stopping;

    public InvalidationAgent(TranslatingDomain domain, InvalidationQueue queue, ModelIommuOptions options)
    {
        _domain = domain;
        _queue = queue;
        _name = $"iommu {domain.DeviceName}";
        _hasThread = options.InvalidationThread && !SchedulePoint.Enabled;
        _idleFlush = options.LazyIdleFlush;
        _mustWake = () => HasWork || (!_timed && Volatile.Read(ref _flushDue));
    }

    private bool HasWork => Volatile.Read(ref _doorbell.Value) > _queue.Acknowledged || Volatile.Read(ref _stopping);

    /// <summary>Returns when a wait was acknowledged. Gate not held, unless by a mover of this thread.</summary>
    public void Await(long wait)
    {
        if (_queue.Acknowledged >= wait)
            return;
        if (!_hasThread || _domain.Gate.IsHeldByCurrentThread)
        {
            ExecuteAsHost();
            return;
        }

        Ring(wait);
        if (Poll(wait))
            return;
        if (NoSleepContext.IsActive)
            ExecuteAsHost();
        else
            _queue.Sleep(wait, new WaitReason("acknowledgement of an IOTLB invalidation", () => $"by the thread {_name}"));
    }

    /// <summary>Lazy mode: ended mappings begin to wait, so that idle time counts from now on. Does nothing without the option.</summary>
    public void ArmIdleFlush()
    {
        if (_idleFlush is null || !_hasThread)
            return;
        Interlocked.Exchange(ref _flushDue, true);
        Start();
        if (Volatile.Read(ref _asleep))
            _idle.WakeAll();
    }

    /// <summary>
    /// Ends the thread and waits until it has done its last work. The device was removed: nothing is queued any more. Gate not held.
    /// </summary>
    public void Stop()
    {
        lock (_starting)
        {
            Volatile.Write(ref _stopping, true);
            if (_thread is null)
                return;
        }

        _idle.WakeAll();
        _ended.Wait(new WaitReason($"end of the thread {_name}"));
    }

    private void ExecuteAsHost()
    {
        using (_domain.Gate.EnterAsHost())
            _queue.Execute();
    }

    private void Ring(long wait)
    {
        long rung = Volatile.Read(ref _doorbell.Value);
        while (rung < wait)
        {
            long found = Interlocked.CompareExchange(ref _doorbell.Value, wait, rung);
            if (found == rung)
                break;
            rung = found;
        }

        // Whoever rang for a later wait wakes the thread, and starts it.
        if (rung >= wait)
            return;
        Start();
        if (Volatile.Read(ref _asleep))
            _idle.WakeAll();
    }

    private void Start()
    {
        if (Volatile.Read(ref _thread) is not null)
            return;
        lock (_starting)
        {
            // A removed domain has acknowledged everything.
            if (_thread is not null || _stopping)
                return;
            var thread = new Thread(Work) { IsBackground = true, Name = _name };
            thread.UnsafeStart();
            Volatile.Write(ref _thread, thread);
        }
    }

    private bool Poll(long wait)
    {
        var pause = new PollPause(PollTime);
        while (_queue.Acknowledged < wait)
        {
            if (!pause.Next())
                return false;
        }

        return true;
    }

    private void Work()
    {
        long activity = 0;
        while (true)
        {
            var pause = new PollPause(PollTime);
            while (!HasWork && pause.Next())
            {
            }

            if (!HasWork)
                SleepUntilWork(ref activity);
            if (Volatile.Read(ref _stopping))
                break;
            if (HasWork)
                ExecuteAsHost();
        }

        _ended.Complete();
    }

    private void SleepUntilWork(ref long activity)
    {
        _timed = Volatile.Read(ref _flushDue);
        Interlocked.Exchange(ref _asleep, true);
        var reason = new WaitReason("invalidations") { IsIdle = true };
        Errors.Errno status = _idle.Wait(_mustWake, reason, slice: _timed ? _idleFlush : null);
        Volatile.Write(ref _asleep, false);
        if (status != Errors.Errno.EAGAIN)
            return;
        using (_domain.Gate.EnterAsHost())
        {
            // Idle is a domain that mapped and unmapped nothing for a whole period.
            long now = _domain.Counters.Maps + _domain.Counters.Unmaps;
            if (now == activity)
            {
                Volatile.Write(ref _flushDue, false);
                if (_domain.QueueFlush() != 0)
                    _queue.Execute();
            }

            activity = now;
        }
    }

    /// <summary>On cache lines of its own: written by hosts, polled by the agent.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct Doorbell
    {
        [FieldOffset(128)]
        public long Value;
    }

    /// <summary>
    /// The pauses of a bounded poll: spinning first, for another core answers within a microsecond, then giving the core away.
    /// </summary>
    private struct PollPause(TimeSpan limit)
    {
        private const int Spins = 64;
        private static readonly bool s_alone = Environment.ProcessorCount == 1;
        private readonly long _began = Stopwatch.GetTimestamp();
        private int _rounds;

        public bool Next()
        {
            if (_rounds < Spins && !s_alone)
            {
                _rounds++;
                Thread.SpinWait(1);
                return true;
            }

            if (Stopwatch.GetElapsedTime(_began) >= limit)
                return false;
            Thread.Yield();
            return true;
        }
    }
}
