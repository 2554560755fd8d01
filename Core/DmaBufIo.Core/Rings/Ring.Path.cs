using DmaBufIo.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Io;
using DmaBufIo.Iov;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <content>The way of a request: start and issue. How it ends stands in Ring.Ending.cs. Everything here runs as the context's current owner.</content>
public sealed partial class Ring
{
    void IPollable.PollAsVisitor()
    {
        // Requests in part go on: they hold references that the visitor is waiting for. Parked ones hold none and wait for the owner.
        _isVisit = true;
        try
        {
            PollFiles();
            Commit();
        }
        finally
        {
            _isVisit = false;
        }

        WakeOwner();
    }

    void ISnapshotSource.Describe(SnapshotBuilder snapshot)
    {
        // Read without stopping the owner: each map and age is a moment old at most.
        uint now = (uint)Environment.TickCount64;
        for (int i = 0; i < _requests.Length; i++)
        {
            DmaMap? map = _requests[i].State is RequestState.Issued or RequestState.Partial or RequestState.Bounced ? PeekMap(_requests[i]) : null;
            if (map is null)
                continue;
            var age = TimeSpan.FromMilliseconds(Math.Max(0, (int)(now - _requests[i].Since)));
            snapshot.InFlight[map] = snapshot.InFlight.TryGetValue(map, out (int Requests, TimeSpan Oldest, string Ring) seen)
                ? (seen.Requests + 1, age > seen.Oldest ? age : seen.Oldest, seen.Ring.Contains(Name, StringComparison.Ordinal) ? seen.Ring : $"{seen.Ring}, {Name}")
                : (1, age, Name);
        }
    }

    [Diagnostics.HotPath]
    private void StartPrepared(CancellationToken cancellationToken)
    {
        _context.Counters.Requests += _preparedTail - _preparedHead;
        while (_preparedHead < _preparedTail)
        {
            try
            {
                while (_preparedHead < _preparedTail)
                {
                    if (!StartRun())
                    {
                        StartOther(_prepared[_preparedHead++], cancellationToken);

                        // It may have slept.
                        EndCancelledPrepared();
                    }
                }
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                // The request that was cut off was taken already, or is the first of its run that was not issued.
                EndRunEarly();
                Fault(_prepared[_preparedHead - 1], e);
            }
        }

        _preparedHead = 0;
        _preparedTail = 0;
    }

    /// <summary>
    /// The way of nearly all requests: one range each of one buffer that has a live map, all of it taken by the file. Starts them one after the other up to
    /// the first that is different.
    /// </summary>
    /// <remarks>
    /// References are taken for all that are prepared, with one look at the gate; those that are not used are given back before anything else happens,
    /// above all before anything sleeps (T15, T16).
    /// </remarks>
    /// <returns>False when the next request cannot go this way; nothing is held for it.</returns>
    [Diagnostics.HotPath]
    private bool StartRun()
    {
        ReadOnlySpan<int> tags = _prepared.AsSpan(_preparedHead, _preparedTail - _preparedHead);
        ref RingRequest first = ref _requests[tags[0]];
        RingOperation operation = first.Operation;
        Registration? registration = _slots[first.Slot];
        if (operation > RingOperation.WriteFixed || registration?.Token is not { } token || (registration.Direction & first.Direction) == 0)
            return false;
        DmaMap? map = token.TryGetMap(_context, tags.Length);
        if (map is null)
            return false;
        MapUse use = UseOf(registration, map);
        int count = BindRun(tags, use, first.Kind);
        if (count != tags.Length)
            DmaBufToken.Drop(map, _context, tags.Length - count);
        if (count == 0)
            return false;
        RingFile file = registration.RingFile;
        registration.InFlight += count;
        file.InFlight += count;
        file.IsTouched = true;
        _run = use;
        _runEnd = _preparedHead + count;
        _isIssuingRun = true;
        int issued = file.Queue.IssueRanges(operation == RingOperation.WriteFixed, map, _ios, tags[..count]);
        _isIssuingRun = false;
        _preparedHead += issued;
        while (_preparedHead < _runEnd)
        {
            // Taken before it is issued: one that is cut off is not started twice.
            int tag = _prepared[_preparedHead++];
            _ios[tag].Iter.Bind(map);
            Settle(tag, GiveToFile(tag));
        }

        _run = null;
        return true;
    }

    /// <summary>Looks at prepared requests up to the first that is different, and makes them ready to be issued.</summary>
    /// <returns>How many.</returns>
    [Diagnostics.HotPath]
    private int BindRun(ReadOnlySpan<int> tags, MapUse use, uint kind)
    {
        Registration registration = use.Registration;
        int id = use.Id;
        uint now = (uint)_context.Now;
        RingRequest[] requests = _requests;
        IoRequest[] ios = _ios;
        long size = registration.Size;
        IoFile file = registration.File;
        int count = 0;
        foreach (int tag in tags)
        {
            ref RingRequest request = ref requests[tag];
            ref IoRequest io = ref ios[tag];

            // Range and file as in Check; a length of 0 is none of this way's business.
            long offset = io.Iter.Offset;
            bool fits = (ulong)offset < (ulong)size && (ulong)(io.Iter.Count - 1) < (ulong)(size - offset);
            if (!fits || !ReferenceEquals(request.File, file) || request.Kind != kind)
                break;
            request.Use = id;

            // Issued, until the file says otherwise: a file that throws leaves a request that holds its reference.
            request.Issue(kind, now);
            count++;
        }

        return count;
    }

    /// <summary>A file threw: gives back what was taken for the requests of the run that it was not given.</summary>
    private void EndRunEarly()
    {
        if (_run is null)
            return;
        if (_isIssuingRun)
        {
            // Thrown in the middle of a batch, which has told nobody how far it has come. Those with bios are issued; the first without has met the fault.
            _isIssuingRun = false;
            while (_preparedHead < _runEnd && _ios[_prepared[_preparedHead]].Pending != 0)
                _preparedHead++;
            if (_preparedHead < _runEnd)
                _preparedHead++;
        }

        int left = _runEnd - _preparedHead;
        foreach (int tag in _prepared.AsSpan(_preparedHead, left))
            _requests[tag].State = RequestState.Prepared;
        _run.Registration.InFlight -= left;
        _run.Registration.RingFile.InFlight -= left;
        if (left != 0)
            DmaBufToken.Drop(_run.Map!, _context, left);
        _run = null;
    }

    /// <summary>Range, file, direction, in this order: a range error on a wrong file is the range error (R3).</summary>
    [Diagnostics.HotPath]
    private static Errno Check(in RingRequest request, in IovIter iter, Registration registration)
    {
        long offset = iter.Offset;
        if (!request.IsVector && ((ulong)offset > (ulong)registration.Size || (ulong)iter.Count > (ulong)(registration.Size - offset)))
            return Errno.EFAULT; // leaves the buffer, or wraps (R2)
        if (!ReferenceEquals(registration.File, request.File))
            return Errno.EBADF; // T13
        return (registration.Direction & request.Direction) != 0 ? Errno.Ok : Errno.EACCES; // T1
    }

    [Diagnostics.HotPath]
    private void StartOther(int tag, CancellationToken cancellationToken)
    {
        ref RingRequest request = ref _requests[tag];
        request.Since = (uint)_context.Now;
        request.Use = 0;
        bool isFlush = request.Operation == RingOperation.Flush;
        long length = _ios[tag].Iter.Count;
        Errno status = Errno.Ok;
        RingFile? file = null;
        if (isFlush)
        {
            _ios[tag].Iter = default;
            file = FindFile(request.File!);
            status = file is null ? Errno.EBADF : Errno.Ok;
        }
        else if (_slots[request.Slot] is { } registration)
        {
            if (request.IsVector)
                status = CheckRanges(tag, registration.Size, out length);
            if (status == Errno.Ok)
                status = Check(request, _ios[tag].Iter, registration);
            if (status == Errno.Ok)
            {
                request.Use = registration.Bare!.Id;
                file = registration.RingFile;
            }
        }
        else
        {
            status = Errno.EFAULT;
        }

        if (status != Errno.Ok || (!isFlush && length == 0))
        {
            // Nothing counts it yet, and nothing will clear what an earlier request has left in its place.
            request.Use = 0;
            _ios[tag].Iter = default;
            _ios[tag].Status = status;
            Complete(tag, ref request, _ios[tag]);
            return;
        }

        file!.InFlight++;
        if (RegistrationOf(request) is { } counted)
            counted.InFlight++;
        if (isFlush)
            IssueFlush(tag);
        else
            IssueSlow(tag, isRetry: false, cancellationToken);
    }

    [Diagnostics.HotPath]
    private Errno CheckRanges(int tag, long size, out long total)
    {
        total = 0;
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

        return Errno.Ok;
    }

    [Diagnostics.HotPath]
    private void IssueFlush(int tag)
    {
        ref RingRequest request = ref _requests[tag];
        RingFile file = FindFile(request.File!)!;
        file.IsTouched = true;
        request.State = RequestState.Issued;
        Settle(tag, file.Queue.Fsync(ref _ios[tag]));
    }

    /// <summary>Takes the request's one map reference, if need be a new map's, and gives the request to its file. On return it is issued, in part or wholly, parked, or ended.</summary>
    [Diagnostics.HotPath]
    private void IssueSlow(int tag, bool isRetry, CancellationToken cancellationToken)
    {
        ref RingRequest request = ref _requests[tag];
        Registration registration = RegistrationOf(request)!;
        if (registration.Token is not { } token)
        {
            IssueWithoutToken(tag, registration, isRetry, cancellationToken);
            return;
        }

        DmaMap? map = token.TryGetMap(_context);
        if (map is null)
        {
            if (registration.Bounce is { } path && TryBounceUnmapped(tag, path, isRetry, cancellationToken))
                return;
            long generation = token.Buffer.Generation;
            Errno failed = GetMapAwaited(tag, token, out map, cancellationToken);
            if (failed == Errno.EINTR && _mapComesLater)
            {
                ParkForMap(tag);
                return;
            }

            if (failed == Errno.EINTR && isRetry && cancellationToken.IsCancellationRequested && !IsCancelled(tag))
            {
                // Not this request's wait was cancelled, but the call that took it up again on the way.
                _parked.Add(tag);
                return;
            }

            if (failed != Errno.Ok)
            {
                if (TryBounceUnmappable(tag, registration, failed, generation, isRetry, cancellationToken))
                    return;
                _ios[tag].Iter = default;
                _ios[tag].Status = failed;
                End(tag);
                return;
            }
        }

        // Nothing of it was issued: the iterator of a range stands at its start.
        request.Use = UseOf(registration, map!).Id;
        ref IovIter iter = ref _ios[tag].Iter;
        iter = IovIter.ForMap(map!, iter.Offset, iter.Count, request.Direction);
        request.State = RequestState.Issued;

        // From here on the request is known to hold the reference: ranges that the application has freed meanwhile throw.
        if (request.IsVector)
            iter = IovIter.ForMapRanges(map!, _ranges[tag], request.Direction);
        registration.RingFile.IsTouched = true;
        Settle(tag, GiveToFile(tag));
    }

    [Diagnostics.HotPath]
    private Errno GiveToFile(int tag)
    {
        ref IoRequest io = ref _ios[tag];
        FileQueue queue = RegistrationOf(_requests[tag])!.RingFile.Queue;
        return _requests[tag].Direction == DmaDirection.FromDevice ? queue.ReadIter(ref io, ref io.Iter) : queue.WriteIter(ref io, ref io.Iter);
    }

    /// <summary>What a file or a driver threw. The request path does not throw: a request cut off here would keep its map's reference for ever (R4).</summary>
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void Fault(int tag, Exception exception)
    {
        ref RingRequest request = ref _requests[tag];

        // It was cut off before it got a reference; the map in its iterator is one that the place's last request has used.
        if (request.State is RequestState.Prepared or RequestState.Parked)
            _ios[tag].Iter = default;
        DmaBufIoDiagnostics.Report(new DriverFault($"{request.Operation} of {request.File?.Name}", exception));
        Settle(tag, Errno.EIO);
    }

    [Diagnostics.HotPath]
    private void Settle(int tag, Errno status)
    {
        ref RingRequest request = ref _requests[tag];
        ref IoRequest io = ref _ios[tag];
        if (status == Errno.EAGAIN && io.Pending == 0 && io.Transferred == 0 && request.State != RequestState.Partial)
        {
            // No room before the first bio: give the reference up and wait without it (T16).
            if (_uses[request.Use] is { Map: { } map } use)
            {
                DmaBufToken.Drop(map, _context);
                request.Use = use.Registration.Bare!.Id;
            }

            request.State = RequestState.Parked;
            _parked.Add(tag);
            return;
        }

        bool error = status is not (Errno.Ok or Errno.EAGAIN);
        if (error && io.Status == Errno.Ok)
        {
            if (status == Errno.EINVAL && TryParkUnaligned(tag))
                return;
            io.Status = status;
        }

        if (!error && io.Status == Errno.Ok && io.Iter.Count > 0)
        {
            // The rest follows when bios have ended, with the same reference.
            request.State = RequestState.Partial;
            _partial.Add(tag);
            return;
        }

        request.State = RequestState.Issued;
        if (io.Pending == 0)
            End(tag);
    }

    /// <summary>The slow path sleeps: what was issued goes to the devices first, and the context is left so that others can reap it (T14, T15).</summary>
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
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

    [Diagnostics.HotPath]
    private void RetryParked(CancellationToken cancellationToken)
    {
        _roomMade = false;
        _retries++;
        _context.TellTime();

        // Each at most once per call. A file that sent one back is not asked again in this call, but the others are: its device may be stuck, theirs
        // are not. All of that file's move to the end of the queue, so that their order stays.
        for (int i = _parked.Count; i > 0; i--)
        {
            int tag = _parked.Take();
            bool isFlush = _requests[tag].Operation == RingOperation.Flush;
            RingFile file = isFlush ? FindFile(_requests[tag].File!)! : RegistrationOf(_requests[tag])!.RingFile;
            bool readsAlone = file.IsPaged && _requests[tag].Direction == DmaDirection.FromDevice;
            if ((readsAlone ? file.ReadsFullIn : file.FullIn) == _retries)
            {
                _parked.Add(tag);
                continue;
            }

            _mapComesLater = false;
            try
            {
                if (isFlush)
                    IssueFlush(tag);
                else if (_bounced is null)
                    IssueSlow(tag, isRetry: true, cancellationToken);
                else
                    IssueParked(tag, cancellationToken);
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                Fault(tag, e);
            }

            if (_requests[tag].State != RequestState.Parked)
                _context.Counters.Reissued++;
            else if (_mapComesLater || (_bounced is not null && WaitsForPiece(tag)))
                continue;
            else if (readsAlone)
                file.ReadsFullIn = _retries;
            else
                file.FullIn = _retries;
        }
    }

    [Diagnostics.HotPath]
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

    [Diagnostics.HotPath]
    private void ContinuePartial()
    {
        _context.TellTime();
        for (int i = _partial.Count; i > 0; i--)
        {
            int tag = _partial.Take();
            ref RingRequest request = ref _requests[tag];
            if (request.State == RequestState.Bounced)
            {
                ContinueBounced(tag);
                continue;
            }

            if (_ios[tag].Status != Errno.Ok)
            {
                Settle(tag, _ios[tag].Status);
                continue;
            }

            RegistrationOf(request)!.RingFile.IsTouched = true;
            try
            {
                Settle(tag, GiveToFile(tag));
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                Fault(tag, e);
            }
        }
    }

    [Diagnostics.HotPath]
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
