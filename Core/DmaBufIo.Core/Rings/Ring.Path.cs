using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Iov;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <content>The way of a request: start, issue, end. Everything here runs as the context's current owner.</content>
public sealed partial class Ring
{
    void IPollable.PollAsVisitor()
    {
        // Requests in part go on: they hold references that the visitor is waiting for. Parked ones hold none and wait for the owner.
        PollFiles();
        Commit();
        WakeOwner();
    }

    void IBioOwner.BioEnded(BioHandle bio)
    {
        ref Bio data = ref _bios[bio];
        int tag = (int)data.Cookie;
        ref RingRequest request = ref _requests[tag];
        if (data.Status == Errno.Ok)
            request.Io.Transferred += data.Size;
        else if (request.Io.Status == Errno.Ok)
            request.Io.Status = data.Status;
        _bios.Release(bio);
        if (--request.Io.Pending == 0 && request.State == RequestState.Issued)
            End(tag, ref request);
    }

    void ISnapshotSource.Describe(SnapshotBuilder snapshot)
    {
        // Read without stopping the owner: each map and age is a moment old at most.
        long now = Environment.TickCount64;
        for (int i = 0; i < _requests.Length; i++)
        {
            DmaMap? map = _requests[i].Map;
            if (map is null)
                continue;
            var age = TimeSpan.FromMilliseconds(Math.Max(0, now - _requests[i].Since));
            snapshot.InFlight[map] = snapshot.InFlight.TryGetValue(map, out (int Requests, TimeSpan Oldest, string Ring) seen)
                ? (seen.Requests + 1, age > seen.Oldest ? age : seen.Oldest, seen.Ring.Contains(Name, StringComparison.Ordinal) ? seen.Ring : $"{seen.Ring}, {Name}")
                : (1, age, Name);
        }
    }

    private void Start(int tag, CancellationToken cancellationToken)
    {
        ref RingRequest request = ref _requests[tag];
        request.Since = _context.Now;
        Errno status = request.IsAsync && IsCancelled(tag) ? Errno.EINTR
            : request.Operation == RingOperation.Flush ? ResolveFile(ref request) : ResolveBuffer(ref request);
        if (status != Errno.Ok || (request.Operation != RingOperation.Flush && request.Length == 0))
        {
            // Nothing counts it yet.
            request.Registration = null;
            request.RingFile = null;
            request.Io.Status = status;
            End(tag, ref request);
            return;
        }

        request.RingFile!.InFlight++;
        if (request.Registration is { } registration)
            registration.InFlight++;
        Issue(tag, ref request, isRetry: false, cancellationToken);
    }

    /// <summary>Slot, range, file, direction, in this order: a range error on a wrong file is the range error (R3).</summary>
    private Errno ResolveBuffer(ref RingRequest request)
    {
        Registration? registration = (uint)request.Slot < (uint)_slots.Length ? _slots[request.Slot] : null;
        if (registration is null)
            return Errno.EFAULT;
        if (request.IsVector)
        {
            Errno status = CheckRanges(ref request, registration.Size);
            if (status != Errno.Ok)
                return status;
        }
        else if ((ulong)request.BufferOffset > (ulong)registration.Size || (ulong)request.Length > (ulong)(registration.Size - request.BufferOffset))
        {
            return Errno.EFAULT; // leaves the buffer, or wraps (R2)
        }

        if (!ReferenceEquals(registration.File, request.File))
            return Errno.EBADF; // T13
        if ((registration.Direction & request.Direction) == 0)
            return Errno.EACCES; // T1
        request.Registration = registration;
        request.RingFile = registration.RingFile;
        return Errno.Ok;
    }

    private static Errno CheckRanges(ref RingRequest request, long size)
    {
        long total = 0;
        foreach (BufferRange range in request.Ranges.Span)
        {
            if ((ulong)range.Offset > (ulong)size || (ulong)range.Length > (ulong)(size - range.Offset))
                return Errno.EFAULT;
            total += range.Length;
        }

        request.Length = total;
        return Errno.Ok;
    }

    private Errno ResolveFile(ref RingRequest request)
    {
        request.RingFile = FindFile(request.File!);
        return request.RingFile is null ? Errno.EBADF : Errno.Ok;
    }

    /// <summary>Takes the request's one map reference and gives the request to its file. On return it is issued, in part or wholly, parked, or ended.</summary>
    private void Issue(int tag, ref RingRequest request, bool isRetry, CancellationToken cancellationToken)
    {
        if (request.Operation == RingOperation.Flush)
        {
            Settle(tag, ref request, GiveToFile(ref request));
            return;
        }

        DmaBufToken? token = request.Registration!.Token;
        if (token is null)
        {
            IssuePerRequest(tag, ref request, request.Registration.Memory!);
            return;
        }

        DmaMap? map = token.TryGetMap(_context);
        if (map is null)
        {
            Errno status = request.IsAsync
                ? GetMapAwaited(tag, token, out map, cancellationToken)
                : GetMapSlow(token, out map, cancellationToken);
            if (status == Errno.EINTR && isRetry && !IsCancelled(tag))
            {
                // Not this request's wait was cancelled, but the call that took it up again on the way.
                _parked.Add(tag);
                return;
            }

            if (status != Errno.Ok)
            {
                request.Io.Status = status;
                End(tag, ref request);
                return;
            }
        }

        request.Map = map;
        request.Iter = request.IsVector
            ? IovIter.ForMapRanges(map!, request.Ranges, request.Direction)
            : IovIter.ForMap(map!, request.BufferOffset, request.Length, request.Direction);
        Settle(tag, ref request, GiveToFile(ref request));
    }

    private static Errno GiveToFile(ref RingRequest request)
    {
        try
        {
            return request.Operation switch
            {
                RingOperation.ReadFixed => request.RingFile!.Queue.ReadIter(ref request.Io, ref request.Iter),
                RingOperation.WriteFixed => request.RingFile!.Queue.WriteIter(ref request.Io, ref request.Iter),
                _ => request.RingFile!.Queue.Fsync(ref request.Io),
            };
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // The request path does not throw: a request cut off here would keep its map's reference for ever (R4).
            DmaBufIoDiagnostics.Report(new DriverFault($"{request.Operation} of {request.RingFile!.File.Name}", e));
            return Errno.EIO;
        }
    }

    private void Settle(int tag, ref RingRequest request, Errno status)
    {
        request.RingFile!.IsTouched = true;
        if (status == Errno.EAGAIN && request.Io.Pending == 0 && request.Io.Transferred == 0 && request.State != RequestState.Partial)
        {
            // No room before the first bio: give the reference up and wait without it (T16).
            DropMap(ref request);
            request.State = RequestState.Parked;
            _parked.Add(tag);
            return;
        }

        bool error = status is not (Errno.Ok or Errno.EAGAIN);
        if (error && request.Io.Status == Errno.Ok)
            request.Io.Status = status;
        if (!error && request.Io.Status == Errno.Ok && request.Iter.Count > 0)
        {
            // The rest follows when bios have ended, with the same reference.
            request.State = RequestState.Partial;
            _partial.Add(tag);
            return;
        }

        request.State = RequestState.Issued;
        if (request.Io.Pending == 0)
            End(tag, ref request);
    }

    /// <summary>The slow path sleeps: what was issued goes to the devices first, and the context is left so that others can reap it (T14, T15).</summary>
    private Errno GetMapSlow(DmaBufToken token, out DmaMap? map, CancellationToken cancellationToken)
    {
        map = null;
        if (_options.NoWait)
            return Errno.EAGAIN;
        if (token.MapsMade != 0)
            _context.Counters.Reissued++;
        Commit();
        _context.Leave();
        Errno status = Errno.EINTR;
        try
        {
            status = token.GetMap(_context, out map, cancellationToken);
        }
        finally
        {
            if (status != Errno.Ok)
                _context.Enter();
        }

        return status;
    }

    /// <summary>The order of T18: the device has completed and the driver has synced; now the map's reference, then the completion.</summary>
    private void End(int tag, ref RingRequest request)
    {
        DropMap(ref request);
        request.State = RequestState.Ended;
        request.Iter = default;
        request.Ranges = default;
        request.File = null;
        IoCounters counters = _context.Counters;
        counters.Completed++;
        counters.Bytes += request.Io.Transferred;
        if (request.Io.Status != Errno.Ok)
            counters.Failed++;
        (request.IsAsync ? _endedAsync : _ended).Add(tag);
        if (request.RingFile is { } file)
        {
            file.InFlight--;
            request.RingFile = null;
        }

        if (request.Registration is { } registration)
        {
            request.Registration = null;
            if (--registration.InFlight == 0 && registration.IsRemoved)
                Finish(registration);
        }
    }

    private void DropMap(ref RingRequest request)
    {
        DmaMap? map = request.Map;
        if (map is null)
            return;
        request.Map = null;
        DmaBufToken.Drop(map, _context);
    }

    private void RetryParked(CancellationToken cancellationToken)
    {
        _roomMade = false;
        _retries++;

        // Each at most once per call. A file that sent one back is not asked again in this call, but the others are: its device may be stuck, theirs
        // are not. All of that file's move to the end of the queue, so that their order stays.
        for (int i = _parked.Count; i > 0; i--)
        {
            int tag = _parked.Take();
            RingFile file = _requests[tag].RingFile!;
            if (file.FullIn == _retries)
            {
                _parked.Add(tag);
                continue;
            }

            Issue(tag, ref _requests[tag], isRetry: true, cancellationToken);
            if (_requests[tag].State == RequestState.Parked)
                file.FullIn = _retries;
            else
                _context.Counters.Reissued++;
        }
    }

    private int PollFiles()
    {
        int count = 0;
        for (int i = 0; i < _files.Count; i++)
        {
            if (_files[i].InFlight != 0)
                count += _files[i].Queue.Poll(PollBatch);
        }

        count += _bios.Dispatch();
        if (_partial.Count != 0)
            ContinuePartial();

        // Remembered, not only answered: when a visitor made the room, it is the owner who has parked requests for it.
        if (count != 0)
            _roomMade = true;
        return count;
    }

    private void ContinuePartial()
    {
        for (int i = _partial.Count; i > 0; i--)
        {
            int tag = _partial.Take();
            ref RingRequest request = ref _requests[tag];
            Settle(tag, ref request, request.Io.Status == Errno.Ok ? GiveToFile(ref request) : request.Io.Status);
        }
    }

    private void Commit()
    {
        for (int i = 0; i < _files.Count; i++)
        {
            if (_files[i].IsTouched)
            {
                _files[i].IsTouched = false;
                _files[i].Queue.Commit();
            }
        }
    }
}
