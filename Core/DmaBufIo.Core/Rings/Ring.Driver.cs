using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.Rings;

/// <content>The thread of a ring whose application only awaits (<see cref="RingOptions.DriverThread"/>).</content>
public sealed partial class Ring
{
    private readonly Driver? _driver;

    /// <summary>
    /// Runs something as the context's owner; on a ring with a driver thread, between two of that thread's batches. May not sleep.
    /// </summary>
    private void AsOwner(Action work)
    {
        if (_driver is not null)
        {
            _context.Visit(work);
            return;
        }

        _context.Enter();
        try
        {
            work();
        }
        finally
        {
            _context.Leave();
        }
    }

    /// <summary>
    /// Takes requests over from any thread, submits and reaps for them. This is not the request path of a ring with a thread: a lock per
    /// request and a thread switch per batch are its price.
    /// </summary>
    /// <remarks>
    /// <c>_outstanding</c> counts from the call until just before the continuation is let go; it never exceeds the ring's entries, so the
    /// queue never overflows and the ring has room for everything in it. Sleeping: the driver says so under the lock, with the queue empty;
    /// who queues under the same lock sees it and wakes it.
    /// </remarks>
    private sealed class Driver
    {
        private const int Spins = 16;

        // Some hundred microseconds: longer than most gaps between the requests of one stream, shorter than anybody notices.
        private const int Yields = 1024;

        private static readonly TimeSpan s_betweenLooks = TimeSpan.FromMilliseconds(1);
        private readonly Ring _ring;
        private readonly Lock _lock = new();
        private readonly WaitQueue _wake = new();
        private readonly Completion _ended = new();
        private readonly AsyncRequest[] _queue;
        private readonly Func<bool> _isAwake;
        private readonly Thread _thread;
        private int _head;
        private int _count;
        private int _outstanding;
        private bool _stopping;
        private volatile bool _asleep;

        internal Driver(Ring ring)
        {
            _ring = ring;
            _queue = new AsyncRequest[ring._requests.Length];
            _isAwake = () => !_asleep;
            _thread = new Thread(Run) { IsBackground = true, Name = $"{ring.Name} driver" };
        }

        /// <summary>Requests that were taken over and have not ended.</summary>
        internal int Outstanding
        {
            get
            {
                lock (_lock)
                    return _outstanding;
            }
        }

        internal void Start() => _thread.UnsafeStart(); // without the caller's execution context

        internal ValueTask<IoStatus> HandOver(in AsyncCall call, long deadline, CancellationToken cancellationToken)
        {
            AsyncRequest request;
            bool wake;
            lock (_lock)
            {
                ObjectDisposedException.ThrowIf(_stopping, _ring);
                if (_outstanding == _queue.Length)
                    return new ValueTask<IoStatus>(new IoStatus(Errno.EAGAIN, 0));
                request = _ring._asyncPool.Rent();
                request.Call = call;
                request.Cancellation = cancellationToken;
                request.Deadline = deadline;
                int tail = _head + _count;
                _queue[tail >= _queue.Length ? tail - _queue.Length : tail] = request;
                _count++;
                _outstanding++;
                wake = _asleep;
                _asleep = false;
            }

            if (wake)
                _wake.WakeAll();

            // It may sleep for interrupts instead: what is queued here is one more of the queues that it looks at between clearing the signal and waiting.
            _ring._wake?.Raise();
            return request.Task;
        }

        /// <summary>Refuses new requests, waits until all that were taken have ended, and ends the thread.</summary>
        internal void Stop()
        {
            // A captured context that runs what is posted to it on the spot could bring the application here.
            if (ReferenceEquals(Thread.CurrentThread, _thread))
            {
                throw new InvalidOperationException(
                    $"Ring {_ring.Name} cannot be disposed by its driver thread, which would wait for itself.");
            }

            NoSleepContext.AssertMaySleep($"end of {_thread.Name}");
            lock (_lock)
            {
                _stopping = true;
                _asleep = false;
            }

            _wake.WakeAll();
            _ended.Wait(new WaitReason($"end of {_thread.Name}", () => $"{_ring.InFlight} requests in flight"));
        }

        private void Run()
        {
            int idleRounds = 0;
            while (true)
            {
                bool progress = Take();
                if (progress || _ring._asyncOutstanding != 0)
                    progress |= Look();
                progress |= LetGo();
                idleRounds = progress ? 0 : idleRounds + 1;
                if (!progress && !Idle(idleRounds))
                    break;
            }

            _ended.Complete();
        }

        /// <summary>
        /// Submits, looks at the devices and ends requests. What a device throws comes out of <see cref="Reap(Span{RingCompletion})"/> on other rings; here
        /// nobody could catch it, and the process would end. It is reported, and the device looked at again.
        /// </summary>
        private bool Look()
        {
            try
            {
                return _ring.DriveOnce(CancellationToken.None) != 0;
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                DmaBufIoDiagnostics.Report(new DriverFault($"a look at the devices of {_ring.Name}", e));
                return false;
            }
        }

        /// <summary>Prepares what was handed over.</summary>
        private bool Take()
        {
            lock (_lock)
            {
                if (_count == 0)
                    return false;
            }

            // Inside the context: a visitor may be giving places back, and another thread may be emptying a slot.
            _ring._context.Enter();
            try
            {
                lock (_lock)
                {
                    for (; _count > 0; _count--)
                    {
                        AsyncRequest request = _queue[_head];
                        _queue[_head] = null!;
                        if (++_head == _queue.Length)
                            _head = 0;
                        _ring.PrepareAsync(request, request.Call);
                        request.Call = default;
                    }
                }
            }
            finally
            {
                _ring._context.Leave();
            }

            return true;
        }

        /// <summary>
        /// Continuations go to the thread pool: whatever they do, the ring goes on. Their places are free before they run.
        /// </summary>
        private bool LetGo()
        {
            int count = _ring._completing.Count;
            if (count == 0)
                return false;
            lock (_lock)
                _outstanding -= count;
            while (_ring._completing.TryDequeue(out AsyncRequest? request))
                request.Complete();
            return true;
        }

        /// <summary>
        /// Steps aside, more and more. With requests in flight it goes on looking at the devices; with none it sleeps until one comes.
        /// </summary>
        /// <returns>False when it is time to end.</returns>
        private bool Idle(int rounds)
        {
            bool busy = _ring._asyncOutstanding != 0;
            if (busy && _ring._wake is not null && _ring.TrySleep(rounds, CancellationToken.None))
                return true;
            if (rounds < Spins && !SchedulePoint.Enabled)
            {
                Thread.SpinWait(16);
                return true;
            }

            if (rounds < Yields && !SchedulePoint.Enabled)
            {
                Thread.Yield();
                return true;
            }

            lock (_lock)
            {
                if (_count != 0)
                    return true;
                if (_stopping && !busy)
                    return false;
                _asleep = true;
            }

            _wake.Wait(_isAwake, new WaitReason("requests") { IsIdle = true }, slice: busy ? s_betweenLooks : null);
            _asleep = false;
            return true;
        }
    }
}
