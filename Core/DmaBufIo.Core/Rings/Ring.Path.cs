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
        uint now = (uint)Environment.TickCount64;
        for (int i = 0; i < _requests.Length; i++)
        {
            DmaMap? map = _requests[i].State is RequestState.Issued or RequestState.Partial ? _roots[i].Map : null;
            if (map is null)
                continue;
            var age = TimeSpan.FromMilliseconds(Math.Max(0, (int)(now - _requests[i].Since)));
            snapshot.InFlight[map] = snapshot.InFlight.TryGetValue(map, out (int Requests, TimeSpan Oldest, string Ring) seen)
                ? (seen.Requests + 1, age > seen.Oldest ? age : seen.Oldest, seen.Ring.Contains(Name, StringComparison.Ordinal) ? seen.Ring : $"{seen.Ring}, {Name}")
                : (1, age, Name);
        }
    }

    private void StartPrepared(CancellationToken cancellationToken)
    {
        _context.Counters.Requests += _preparedTail - _preparedHead;
        while (_preparedHead < _preparedTail)
        {
            try
            {
                // Taken before it is started: one that is cut off is not started twice.
                while (_preparedHead < _preparedTail)
                    Start(_prepared[_preparedHead++], cancellationToken);
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                Fault(_prepared[_preparedHead - 1], e);
            }
        }

        _preparedHead = 0;
        _preparedTail = 0;
    }

    /// <summary>The way of nearly all requests: one range of a buffer that has a live map, all of it taken by the file. What is different goes on in a method of its own.</summary>
    private void Start(int tag, CancellationToken cancellationToken)
    {
        ref RingRequest request = ref _requests[tag];
        ref RingRoots roots = ref _roots[tag];
        request.Since = (uint)_context.Now;
        Registration? registration = _slots[request.Slot];
        if (request.Operation > RingOperation.WriteFixed || registration is null || request.Length == 0 || Check(request, roots, registration) != Errno.Ok)
        {
            StartOther(tag, cancellationToken);
            return;
        }

        registration.InFlight++;
        RingFile file = registration.RingFile;
        file.InFlight++;
        if (!ReferenceEquals(roots.Registration, registration))
            roots.Registration = registration;
        DmaMap? map = registration.Token.TryGetMap(_context);
        if (map is null)
        {
            IssueSlow(tag, isRetry: false, cancellationToken);
            return;
        }

        if (!ReferenceEquals(roots.Map, map))
            roots.Map = map;
        file.IsTouched = true;
        var iter = IovIter.ForMap(map, request.BufferOffset, request.Length, request.Direction);

        // Issued, until the file says otherwise: a file that throws leaves a request that holds its reference.
        request.State = RequestState.Issued;
        Errno status = request.Operation == RingOperation.ReadFixed
            ? file.Queue.ReadIter(ref request.Io, ref iter)
            : file.Queue.WriteIter(ref request.Io, ref iter);
        if (status != Errno.Ok || iter.Count != 0 || request.Io.Pending == 0)
            Settle(tag, status, iter);
    }

    /// <summary>Range, file, direction, in this order: a range error on a wrong file is the range error (R3).</summary>
    private static Errno Check(in RingRequest request, in RingRoots roots, Registration registration)
    {
        if ((ulong)request.BufferOffset > (ulong)registration.Size || (ulong)request.Length > (ulong)(registration.Size - request.BufferOffset))
            return Errno.EFAULT; // leaves the buffer, or wraps (R2)
        if (!ReferenceEquals(registration.File, roots.File))
            return Errno.EBADF; // T13
        return (registration.Direction & request.Direction) != 0 ? Errno.Ok : Errno.EACCES; // T1
    }

    private void StartOther(int tag, CancellationToken cancellationToken)
    {
        ref RingRequest request = ref _requests[tag];
        ref RingRoots roots = ref _roots[tag];
        roots.Registration = null;
        roots.Map = null;
        bool isFlush = request.Operation == RingOperation.Flush;
        Errno status;
        RingFile? file = null;
        if (isFlush)
        {
            file = FindFile(roots.File!);
            status = file is null ? Errno.EBADF : Errno.Ok;
        }
        else if (_slots[request.Slot] is { } registration)
        {
            status = request.IsVector ? CheckRanges(tag, registration.Size) : Errno.Ok;
            if (status == Errno.Ok)
                status = Check(request, roots, registration);
            if (status == Errno.Ok)
            {
                roots.Registration = registration;
                file = registration.RingFile;
            }
        }
        else
        {
            status = Errno.EFAULT;
        }

        if (status != Errno.Ok || (!isFlush && request.Length == 0))
        {
            // Nothing counts it yet.
            roots.Registration = null;
            request.Io.Status = status;
            Complete(tag, ref request);
            return;
        }

        file!.InFlight++;
        if (roots.Registration is not null)
            roots.Registration.InFlight++;
        if (isFlush)
            IssueFlush(tag);
        else
            IssueSlow(tag, isRetry: false, cancellationToken);
    }

    private Errno CheckRanges(int tag, long size)
    {
        long total = 0;
        ReadOnlySpan<BufferRange> ranges;
        try
        {
            ranges = _ranges[tag].Span;
        }
        catch (ObjectDisposedException)
        {
            return Errno.EFAULT; // the application has freed them
        }

        foreach (BufferRange range in ranges)
        {
            if ((ulong)range.Offset > (ulong)size || (ulong)range.Length > (ulong)(size - range.Offset))
                return Errno.EFAULT;
            total += range.Length;
        }

        _requests[tag].Length = total;
        return Errno.Ok;
    }

    private void IssueFlush(int tag)
    {
        RingFile file = FindFile(_roots[tag].File!)!;
        file.IsTouched = true;
        _requests[tag].State = RequestState.Issued;
        Settle(tag, file.Queue.Fsync(ref _requests[tag].Io), default);
    }

    /// <summary>Takes the request's one map reference, if need be a new map's, and gives the request to its file. On return it is issued, in part or wholly, parked, or ended.</summary>
    private void IssueSlow(int tag, bool isRetry, CancellationToken cancellationToken)
    {
        ref RingRequest request = ref _requests[tag];
        ref RingRoots roots = ref _roots[tag];
        roots.Map = null;
        Registration registration = roots.Registration!;
        DmaMap? map = registration.Token.TryGetMap(_context);
        if (map is null)
        {
            Errno failed = GetMapSlow(registration.Token, out map, cancellationToken);
            if (failed == Errno.EINTR && isRetry && cancellationToken.IsCancellationRequested)
            {
                // Not this request's wait was cancelled, but the call that took it up again on the way.
                _parked.Add(tag);
                return;
            }

            if (failed != Errno.Ok)
            {
                request.Io.Status = failed;
                End(tag, ref request);
                return;
            }
        }

        roots.Map = map;
        registration.RingFile.IsTouched = true;
        IovIter iter = request.IsVector
            ? IovIter.ForMapRanges(map!, _ranges[tag], request.Direction)
            : IovIter.ForMap(map!, request.BufferOffset, request.Length, request.Direction);
        request.State = RequestState.Issued;
        Settle(tag, GiveToFile(ref request, registration.RingFile, ref iter), iter);
    }

    private static Errno GiveToFile(ref RingRequest request, RingFile file, ref IovIter iter) => request.Direction == DmaDirection.FromDevice
        ? file.Queue.ReadIter(ref request.Io, ref iter)
        : file.Queue.WriteIter(ref request.Io, ref iter);

    /// <summary>What a file or a driver threw. The request path does not throw: a request cut off here would keep its map's reference for ever (R4).</summary>
    private void Fault(int tag, Exception exception)
    {
        ref RingRequest request = ref _requests[tag];
        DmaBufIoDiagnostics.Report(new DriverFault($"{request.Operation} of {_roots[tag].File?.Name}", exception));
        Settle(tag, Errno.EIO, default);
    }

    private void Settle(int tag, Errno status, in IovIter rest)
    {
        ref RingRequest request = ref _requests[tag];
        if (status == Errno.EAGAIN && request.Io.Pending == 0 && request.Io.Transferred == 0 && request.State != RequestState.Partial)
        {
            // No room before the first bio: give the reference up and wait without it (T16).
            DropMap(tag);
            request.State = RequestState.Parked;
            _parked.Add(tag);
            return;
        }

        bool error = status is not (Errno.Ok or Errno.EAGAIN);
        if (error && request.Io.Status == Errno.Ok)
            request.Io.Status = status;
        if (!error && request.Io.Status == Errno.Ok && rest.Count > 0)
        {
            // The rest follows when bios have ended, with the same reference.
            request.State = RequestState.Partial;
            _rests[tag] = rest;
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
        DropMap(tag);
        ref RingRoots roots = ref _roots[tag];
        Registration? registration = request.Operation == RingOperation.Flush ? null : roots.Registration;
        RingFile file = registration is null ? FindFile(roots.File!)! : registration.RingFile;
        file.InFlight--;
        Complete(tag, ref request);
        if (registration is not null && --registration.InFlight == 0 && registration.IsRemoved)
            Finish(registration);
    }

    private void Complete(int tag, ref RingRequest request)
    {
        request.State = RequestState.Free;
        IoCounters counters = _context.Counters;
        counters.Completed++;
        counters.Bytes += request.Io.Transferred;
        if (request.Io.Status != Errno.Ok)
            counters.Failed++;
        _ended.Add(request.UserData, request.Io.Status, request.Io.Transferred);
        _free[_freeCount++] = tag;
    }

    /// <summary>Drops the request's reference, if it holds one.</summary>
    private void DropMap(int tag)
    {
        // Left in its place, see RingRoots; the state says that it is not held any more.
        DmaMap? map = _roots[tag].Map;
        if (map is not null)
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
            bool isFlush = _requests[tag].Operation == RingOperation.Flush;
            RingFile file = isFlush ? FindFile(_roots[tag].File!)! : _roots[tag].Registration!.RingFile;
            if (file.FullIn == _retries)
            {
                _parked.Add(tag);
                continue;
            }

            try
            {
                if (isFlush)
                    IssueFlush(tag);
                else
                    IssueSlow(tag, isRetry: true, cancellationToken);
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                Fault(tag, e);
            }

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
            if (request.Io.Status != Errno.Ok)
            {
                Settle(tag, request.Io.Status, default);
                continue;
            }

            RingFile file = _roots[tag].Registration!.RingFile;
            file.IsTouched = true;
            try
            {
                Errno status = GiveToFile(ref request, file, ref _rests[tag]);
                Settle(tag, status, _rests[tag]);
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                Fault(tag, e);
            }
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
