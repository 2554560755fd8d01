using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <content>
/// The awaitable face. A request is prepared, submitted, issued and ended like any other; only where its result goes differs. Continuations
/// are run by the thread that reaps, after its batch and outside the context (T18: the map's reference is long dropped), so they may submit
/// again, invalidate, or dispose the ring.
/// </content>
public sealed partial class Ring
{
    private readonly AsyncRequestPool _asyncPool;
    private readonly AsyncRequest?[] _async;
    private readonly Queue<AsyncRequest> _endedAsync = [];
    private readonly Queue<AsyncRequest> _completing = [];
    private int _asyncOutstanding;
    private int _cancellable; // awaited requests that may end before they are issued

    /// <summary>Reads from a file into a registered buffer.</summary>
    /// <param name="file">The file the buffer was registered with.</param>
    /// <param name="slot">The buffer's slot.</param>
    /// <param name="bufferOffset">First byte in the buffer; a multiple of 4 (R2).</param>
    /// <param name="length">Bytes, a multiple of the file's block; 0 succeeds and moves nothing.</param>
    /// <param name="fileOffset">First byte in the file, a multiple of its block.</param>
    /// <param name="cancellationToken">
    /// Ends the request with <c>EINTR</c> as long as it was not issued: prepared, waiting for a map, or sent back for want of room. One
    /// that is in flight ends as it would have: the device may be writing into the buffer. <see cref="RingOptions.RequestTimeout"/> does
    /// the same by time, with <c>ETIMEDOUT</c>.
    /// </param>
    /// <returns>
    /// The result; await it once. <c>EAGAIN</c> at once when the ring is full: nothing was taken. Await one of the others and ask again, or
    /// keep no more than <see cref="RingOptions.Entries"/> outstanding. (A queue of callers in front of the ring would grow without bound
    /// and hide that the device cannot keep up; <see cref="TryReadFixed"/> answers false for the same reason.)
    /// </returns>
    /// <remarks>
    /// On a ring without a driver thread it is called by the ring's thread like <see cref="TryReadFixed"/>, mixed with that as one likes.
    /// The request goes out with the next <see cref="Submit"/> or <see cref="Drive"/>, and its continuation runs inside
    /// <see cref="Reap(Span{RingCompletion}, int, CancellationToken)"/> or <see cref="Drive"/>, unless the awaiter has captured a context
    /// to go back to. With <see cref="RingOptions.DriverThread"/> it may be called from any thread, and continuations run on the thread
    /// pool. Nothing is allocated per request, as long as results are awaited.
    /// </remarks>
    /// <exception cref="ObjectDisposedException">The ring is being disposed.</exception>
    public ValueTask<IoStatus> ReadFixedAsync(
        IoFile file, int slot, long bufferOffset, long length, long fileOffset, CancellationToken cancellationToken = default) =>
        BeginAsync(new AsyncCall(RingOperation.ReadFixed, file, slot, bufferOffset, length, fileOffset), _options.RequestTimeout, cancellationToken);

    /// <summary>Writes from a registered buffer to a file; see <see cref="ReadFixedAsync(IoFile, int, long, long, long, CancellationToken)"/>.</summary>
    /// <param name="file">The file the buffer was registered with.</param>
    /// <param name="slot">The buffer's slot.</param>
    /// <param name="bufferOffset">First byte in the buffer.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="fileOffset">First byte in the file.</param>
    /// <param name="cancellationToken">Ends the request with <c>EINTR</c> as long as it was not issued.</param>
    /// <returns>The result; await it once.</returns>
    public ValueTask<IoStatus> WriteFixedAsync(
        IoFile file, int slot, long bufferOffset, long length, long fileOffset, CancellationToken cancellationToken = default) =>
        BeginAsync(new AsyncCall(RingOperation.WriteFixed, file, slot, bufferOffset, length, fileOffset), _options.RequestTimeout, cancellationToken);

    /// <summary>Makes everything durable that completed before; see <see cref="ReadFixedAsync(IoFile, int, long, long, long, CancellationToken)"/>.</summary>
    /// <param name="file">The file.</param>
    /// <param name="cancellationToken">Ends the request with <c>EINTR</c> as long as it was not issued.</param>
    /// <returns>The result; await it once.</returns>
    public ValueTask<IoStatus> FlushAsync(IoFile file, CancellationToken cancellationToken = default) =>
        BeginAsync(new AsyncCall(RingOperation.Flush, file, -1, 0, 0, 0), _options.RequestTimeout, cancellationToken);

    /// <summary>
    /// Submits what is prepared and looks at the devices until enough awaited requests have ended, running their continuations. For an
    /// application that awaits on a ring without a driver thread: <c>while (!task.IsCompleted) ring.Drive();</c>. Plain requests go on
    /// meanwhile; their completions stay for <see cref="Reap(Span{RingCompletion}, int, CancellationToken)"/>.
    /// </summary>
    /// <param name="minimum">Returns after so many, as far as that many are outstanding; 0 looks once.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>How many have ended and had their continuations run.</returns>
    public int Drive(int minimum = 1, CancellationToken cancellationToken = default)
    {
        CheckPlain();
        int ran = 0;
        int idleRounds = 0;
        while (true)
        {
            int progress = DriveOnce(cancellationToken);
            ran += RunContinuations();
            if (ran >= minimum || _asyncOutstanding == 0 || cancellationToken.IsCancellationRequested)
                return ran;
            idleRounds = progress == 0 ? idleRounds + 1 : 0;
            if (_wake is null || !TrySleep(idleRounds, cancellationToken))
                Idle(idleRounds);
        }
    }

    private ValueTask<IoStatus> BeginAsync(in AsyncCall call, TimeSpan timeout, CancellationToken cancellationToken)
    {
        ObjectDisposedException.ThrowIf(IsClosing, this);
        if (cancellationToken.IsCancellationRequested)
            return new ValueTask<IoStatus>(new IoStatus(Errno.EINTR, 0));
        if (timeout == TimeSpan.Zero)
            return new ValueTask<IoStatus>(new IoStatus(Errno.ETIMEDOUT, 0));
        long deadline = timeout == Timeout.InfiniteTimeSpan ? AsyncRequest.NoDeadline : DeadlineIn(timeout);
        if (_driver is not null)
            return _driver.HandOver(call, deadline, cancellationToken);
        if (_freeCount - _ended.Count - _endedAsync.Count <= 0)
            return new ValueTask<IoStatus>(new IoStatus(Errno.EAGAIN, 0));
        AsyncRequest request = _asyncPool.Rent();
        request.Cancellation = cancellationToken;
        request.Deadline = deadline;
        PrepareAsync(request, call);
        return request.Task;
    }

    /// <summary>There is room: the caller has made sure.</summary>
    private void PrepareAsync(AsyncRequest request, in AsyncCall call)
    {
        int tag = Prepare(_freeCount - 1, call.Operation, call.File, call.Slot, call.BufferOffset, call.Length, call.FileOffset, 0);
        _async[tag] = request;
        _asyncOutstanding++;
        if (request.MayEndEarly)
            _cancellable++;
        if (request.Deadline != AsyncRequest.NoDeadline)
            _timed++;
    }

    private int DriveOnce(CancellationToken cancellationToken)
    {
        if (_preparedTail != _preparedHead)
            SubmitPrepared(cancellationToken);
        _context.Enter();
        _context.CountReap();
        try
        {
            int progress = PollFiles();
            EndWhatVisitorsLeft();
            EndCancelled();
            if (_parked.Count != 0 && (_roomMade || _parked.Count == InFlight))
                RetryParked(cancellationToken);
            Commit();
            TakeEndedAsync();
            return progress;
        }
        finally
        {
            _context.Leave();
        }
    }

    /// <summary>An awaited request has ended; the rest comes after the batch.</summary>
    private void CompleteAwaited(int tag, AsyncRequest awaited, in IoRequest io, BounceReason bounce = BounceReason.None)
    {
        _async[tag] = null;
        awaited.Result = new IoStatus(io.Status, io.Transferred) { Bounce = bounce };
        _endedAsync.Enqueue(awaited);
    }

    /// <summary>The places of ended requests are free again before their continuations run, which may want them.</summary>
    private void TakeEndedAsync()
    {
        while (_endedAsync.TryDequeue(out AsyncRequest? awaited))
        {
            if (awaited.MayEndEarly)
            {
                if (awaited.Deadline != AsyncRequest.NoDeadline)
                    _timed--;
                awaited.Cancellation = default;
                awaited.Deadline = AsyncRequest.NoDeadline;
                _cancellable--;
            }

            awaited.MapWaits = 0;
            _asyncOutstanding--;
            _completing.Enqueue(awaited);
        }
    }

    /// <summary>
    /// Application code runs here: outside the context, and nothing of the ring is half-done. It may come back to the ring, also to this
    /// method.
    /// </summary>
    private int RunContinuations()
    {
        if (_completing.Count == 0)
            return 0;
        int count = 0;
        int outer = _asyncPool.BeginRun();
        try
        {
            while (_completing.TryDequeue(out AsyncRequest? request))
            {
                count++;
                request.Complete();
            }
        }
        finally
        {
            _asyncPool.EndRun(outer);
        }

        return count;
    }

    private bool IsCancelled(int tag) => _cancellable != 0 && EndsEarly(tag, TimeNow()) != Errno.Ok;

    /// <summary>With what a request ends that was not issued yet: <c>EINTR</c> when it is cancelled, <c>ETIMEDOUT</c> when its time is up, <c>Ok</c> when it goes on.</summary>
    private Errno EndsEarly(int tag, long now) =>
        _async[tag] is not { } awaited ? Errno.Ok
        : awaited.Cancellation.IsCancellationRequested ? Errno.EINTR
        : now >= awaited.Deadline ? Errno.ETIMEDOUT
        : Errno.Ok;

    /// <returns>How many.</returns>
    private int EndCancelledPrepared()
    {
        if (_cancellable == 0)
            return 0;
        long now = TimeNow();
        int kept = _preparedHead;
        for (int i = _preparedHead; i < _preparedTail; i++)
        {
            int tag = _prepared[i];
            Errno end = EndsEarly(tag, now);
            if (end == Errno.Ok)
            {
                _prepared[kept++] = tag;
                continue;
            }

            // Nothing counts it yet, and nothing will clear what an earlier request has left in its place.
            ref RingRequest request = ref _requests[tag];
            request.Use = 0;
            _ios[tag].Iter = default;
            _ios[tag].Status = end;
            Complete(tag, ref request, _ios[tag]);
        }

        int ended = _preparedTail - kept;
        _preparedTail = kept;
        return ended;
    }

    /// <summary>Ends what was cancelled, or ran out of time, before it was issued: it holds nothing.</summary>
    private void EndCancelled()
    {
        if (_cancellable == 0)
            return;
        _context.Counters.Requests += EndCancelledPrepared();
        long now = TimeNow();
        for (int i = _parked.Count; i > 0; i--)
        {
            int tag = _parked.Take();
            Errno end = EndsEarly(tag, now);
            if (end == Errno.Ok)
            {
                _parked.Add(tag);
                continue;
            }

            _ios[tag].Iter = default;
            _ios[tag].Status = end;
            End(tag);
        }
    }

    /// <summary>The wait for a map ends when the request is cancelled or out of time, and when the call is cancelled that has taken it up.</summary>
    private Errno GetMapAwaited(int tag, DmaBufToken token, out DmaMap? map, CancellationToken cancellationToken)
    {
        _mapComesLater = false;
        bool hasOthers = _asyncOutstanding != 0 && (_driver is not null || _cancellable > 1);
        if (hasOthers && _async[tag] is { } one)
            return GetMapBetween(one, token, out map, cancellationToken);
        if (_cancellable == 0 || _async[tag] is not { MayEndEarly: true } awaited)
            return GetMapSlow(token, out map, cancellationToken);
        if (awaited.Deadline != AsyncRequest.NoDeadline)
            return GetMapTimed(awaited, token, out map, cancellationToken);
        CancellationToken own = awaited.Cancellation;
        if (!cancellationToken.CanBeCanceled)
            return GetMapSlow(token, out map, own);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(own, cancellationToken);
        return GetMapSlow(token, out map, either.Token);
    }

    private void CheckPlain()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_driver is not null)
            RefusePlain();
    }

    private void RefusePlain()
    {
        ObjectDisposedException.ThrowIf(IsClosing, this);
        throw new InvalidOperationException(
            $"Ring {Name} has a driver thread, which alone submits and reaps: use ReadFixedAsync, WriteFixedAsync and FlushAsync, "
            + "or make the ring without RingOptions.DriverThread.");
    }
}
