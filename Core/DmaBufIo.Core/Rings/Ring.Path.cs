using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
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

    void IBioOwner.BioEnded(BioHandle bio) => ((IBioOwner)this).BiosEnded(new ReadOnlySpan<BioHandle>(in bio));

    [Diagnostics.HotPath]
    void IBioOwner.BiosEnded(ReadOnlySpan<BioHandle> bios)
    {
        // Requests that end one after the other mostly share their registration and their map: what they give back is given back at once.
        var ends = default(EndRun);
        foreach (BioHandle bio in bios)
        {
            ref Bio data = ref _bios[bio];
            int tag = (int)data.Cookie;
            ref RingRequest request = ref _requests[tag];
            if (data.Status == Errno.Ok)
                request.Io.Transferred += data.Size;
            else if (request.Io.Status == Errno.Ok)
                request.Io.Status = data.Status;
            _bios.Release(bio);
            if (--request.Io.Pending != 0 || request.State != RequestState.Issued)
                continue;
            ref RingRoots roots = ref _roots[tag];
            if (!ReferenceEquals(roots.Registration, ends.Registration) || !ReferenceEquals(roots.Map, ends.Map) || roots.Registration is null)
            {
                Finish(ends);
                ends = new EndRun { Registration = roots.Registration, Map = roots.Map, File = roots.Registration?.RingFile ?? FindFile(roots.File!)! };
            }

            ends.Count++;
            Complete(tag, ref request);
        }

        Finish(ends);
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
                        StartOther(_prepared[_preparedHead++], cancellationToken);
                }
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                // The request that was cut off was taken already.
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
        int first = _preparedHead;
        int last = _preparedTail;
        ref RingRequest head = ref _requests[_prepared[first]];
        ushort slot = head.Slot;
        RingOperation operation = head.Operation;
        Registration? registration = _slots[slot];
        if (operation > RingOperation.WriteFixed || registration is null || (registration.Direction & head.Direction) == 0)
            return false;
        DmaMap? map = registration.Token.TryGetMap(_context, last - first);
        if (map is null)
            return false;
        RingFile file = registration.RingFile;
        registration.InFlight += last - first;
        file.InFlight += last - first;
        file.IsTouched = true;
        _run = registration;
        _runMap = map;
        uint now = (uint)_context.Now;
        DmaDirection direction = head.Direction;
        FileQueue queue = file.Queue;
        RingRequest[] requests = _requests;
        RingRoots[] allRoots = _roots;
        int[] prepared = _prepared;
        long size = registration.Size;
        IoFile target = registration.File;
        for (int at = first; at < last; at++)
        {
            int tag = prepared[at];
            ref RingRequest request = ref requests[tag];
            ref RingRoots roots = ref allRoots[tag];

            // Range and file as in Check; a length of 0 is none of this way's business.
            bool fits = (ulong)request.BufferOffset < (ulong)size && (ulong)(request.Length - 1) < (ulong)(size - request.BufferOffset);
            if (!fits || !ReferenceEquals(roots.File, target) || request.Slot != slot || request.Operation != operation)
            {
                EndRunEarly();
                return at != first;
            }

            _preparedHead = at + 1;
            if (!ReferenceEquals(roots.Registration, registration))
                roots.Registration = registration;
            if (!ReferenceEquals(roots.Map, map))
                roots.Map = map;

            // Issued, until the file says otherwise: a file that throws leaves a request that holds its reference.
            request.Since = now;
            request.State = RequestState.Issued;
            var iter = IovIter.ForMap(map, request.BufferOffset, request.Length, direction);
            Errno status = operation == RingOperation.ReadFixed
                ? queue.ReadIter(ref request.Io, ref iter)
                : queue.WriteIter(ref request.Io, ref iter);
            if (status != Errno.Ok || iter.Count != 0 || request.Io.Pending == 0)
                Settle(tag, status, iter);
        }

        _run = null;
        _runMap = null;
        return true;
    }

    /// <summary>Gives back what was taken for the prepared requests that were not reached.</summary>
    [Diagnostics.HotPath]
    private void EndRunEarly()
    {
        if (_run is null)
            return;
        int left = _preparedTail - _preparedHead;
        _run.InFlight -= left;
        _run.RingFile.InFlight -= left;
        DmaBufToken.Drop(_runMap!, _context, left);
        _run = null;
        _runMap = null;
    }

    /// <summary>Range, file, direction, in this order: a range error on a wrong file is the range error (R3).</summary>
    [Diagnostics.HotPath]
    private static Errno Check(in RingRequest request, in RingRoots roots, Registration registration)
    {
        if ((ulong)request.BufferOffset > (ulong)registration.Size || (ulong)request.Length > (ulong)(registration.Size - request.BufferOffset))
            return Errno.EFAULT; // leaves the buffer, or wraps (R2)
        if (!ReferenceEquals(registration.File, roots.File))
            return Errno.EBADF; // T13
        return (registration.Direction & request.Direction) != 0 ? Errno.Ok : Errno.EACCES; // T1
    }

    [Diagnostics.HotPath]
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

    [Diagnostics.HotPath]
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

    [Diagnostics.HotPath]
    private void IssueFlush(int tag)
    {
        RingFile file = FindFile(_roots[tag].File!)!;
        file.IsTouched = true;
        _requests[tag].State = RequestState.Issued;
        Settle(tag, file.Queue.Fsync(ref _requests[tag].Io), default);
    }

    /// <summary>Takes the request's one map reference, if need be a new map's, and gives the request to its file. On return it is issued, in part or wholly, parked, or ended.</summary>
    [Diagnostics.HotPath]
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

    [Diagnostics.HotPath]
    private static Errno GiveToFile(ref RingRequest request, RingFile file, ref IovIter iter) => request.Direction == DmaDirection.FromDevice
        ? file.Queue.ReadIter(ref request.Io, ref iter)
        : file.Queue.WriteIter(ref request.Io, ref iter);

    /// <summary>What a file or a driver threw. The request path does not throw: a request cut off here would keep its map's reference for ever (R4).</summary>
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void Fault(int tag, Exception exception)
    {
        ref RingRequest request = ref _requests[tag];
        DmaBufIoDiagnostics.Report(new DriverFault($"{request.Operation} of {_roots[tag].File?.Name}", exception));
        Settle(tag, Errno.EIO, default);
    }

    [Diagnostics.HotPath]
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

    /// <summary>Ends a request that is counted.</summary>
    private void End(int tag, ref RingRequest request)
    {
        ref RingRoots roots = ref _roots[tag];
        Registration? registration = roots.Registration;
        Complete(tag, ref request);
        Finish(new EndRun { Registration = registration, Map = roots.Map, File = registration?.RingFile ?? FindFile(roots.File!)!, Count = 1 });
    }

    /// <summary>
    /// What requests that have ended held is given back. The order of T18: the device has completed and the driver has synced; now the maps' references;
    /// the application sees the completions after that, when it reaps.
    /// </summary>
    [Diagnostics.HotPath]
    private void Finish(in EndRun ends)
    {
        if (ends.Count == 0)
            return;
        if (ends.Map is not null)
            DmaBufToken.Drop(ends.Map, _context, ends.Count);
        ends.File!.InFlight -= ends.Count;
        Registration? registration = ends.Registration;
        if (registration is not null && (registration.InFlight -= ends.Count) == 0 && registration.IsRemoved)
            Finish(registration);
    }

    [Diagnostics.HotPath]
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
    [Diagnostics.HotPath]
    private void DropMap(int tag)
    {
        // Left in its place, see RingRoots; the state says that it is not held any more.
        DmaMap? map = _roots[tag].Map;
        if (map is not null)
            DmaBufToken.Drop(map, _context);
    }

    [Diagnostics.HotPath]
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

    /// <summary>Requests that ended one after the other with the same registration and map.</summary>
    private struct EndRun
    {
        internal Registration? Registration;
        internal DmaMap? Map;
        internal RingFile? File;
        internal int Count;
    }
}
