using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <content>How a request ends: its bios, what it held, its completion. Everything here runs as the context's current owner.</content>
public sealed partial class Ring
{
    /// <summary>Places of requests that ended in visits become free, their completions are queued, and places that remember a finished registration are cleared.</summary>
    [Diagnostics.HotPath]
    private void EndWhatVisitorsLeft()
    {
        while (_endedInVisit.Count != 0)
        {
            int tag = _endedInVisit.Take();
            Complete(tag, ref _requests[tag], _ios[tag]);
        }

        if (_finished.Count != 0)
            Forget();
    }

    void IBioOwner.BioEnded(BioHandle bio) => ((IBioOwner)this).BiosEnded(new ReadOnlySpan<BioHandle>(in bio));

    [Diagnostics.HotPath]
    void IBioOwner.BiosEnded(ReadOnlySpan<BioHandle> bios)
    {
        if (_isVisit)
        {
            BiosEndedInVisit(bios);
            return;
        }

        // Requests that end one after the other mostly share their registration and their map: what they give back is given back at once.
        int use = 0;
        int count = 0;
        long bytes = 0;
        BioPool pool = _bios;
        IoRequest[] ios = _ios;
        RingRequest[] requests = _requests;
        int[] free = _free;
        int freeCount = _freeCount;
        CompletionQueue ended = _ended;
        AsyncRequest?[]? awaited = _asyncOutstanding != 0 ? _async : null;
        foreach (BioHandle bio in bios)
        {
            ref Bio data = ref pool[bio];
            int tag = (int)data.Cookie;
            ref IoRequest io = ref ios[tag];
            if (data.Status == Errno.Ok)
                io.Transferred += data.Size;
            else if (io.Status == Errno.Ok)
                io.Status = data.Status;
            ref RingRequest request = ref requests[tag];
            if (--io.Pending != 0 || request.State != RequestState.Issued)
                continue;
            if (request.Use != use)
            {
                if (count != 0)
                    GiveBack(use, count, bytes);
                use = request.Use;
                count = 0;
                bytes = 0;
            }

            if (use == 0)
                GiveBackFile(request.File!, io.Transferred);
            else
                count++;
            bytes += io.Transferred;

            // As in Complete.
            request.State = RequestState.Free;
            if (io.Status != Errno.Ok)
                _context.Counters.Failed++;
            if (awaited is not null && awaited[tag] is { } waiting)
                CompleteAwaited(tag, waiting, io);
            else
                ended.Add(request.UserData, io.Status, io.Transferred);
            free[freeCount++] = tag;
        }

        _freeCount = freeCount;
        if (count != 0)
            GiveBack(use, count, bytes);
        pool.Release(bios);
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void BiosEndedInVisit(ReadOnlySpan<BioHandle> bios)
    {
        // Given back together, as in BiosEnded: each time somebody leaves a killed map, all who are inside are counted.
        int use = 0;
        int count = 0;
        long bytes = 0;
        foreach (BioHandle bio in bios)
        {
            ref Bio data = ref _bios[bio];
            int tag = (int)data.Cookie;
            ref IoRequest io = ref _ios[tag];
            if (data.Status == Errno.Ok)
                io.Transferred += data.Size;
            else if (io.Status == Errno.Ok)
                io.Status = data.Status;
            ref RingRequest request = ref _requests[tag];
            if (--io.Pending != 0 || request.State != RequestState.Issued)
                continue;
            if (request.Use != use)
            {
                if (count != 0)
                    GiveBack(use, count, bytes);
                use = request.Use;
                count = 0;
                bytes = 0;
            }

            if (use == 0)
                GiveBackFile(request.File!, io.Transferred);
            else
                count++;
            bytes += io.Transferred;
            Complete(tag, ref request, io);
        }

        if (count != 0)
            GiveBack(use, count, bytes);
        _bios.Release(bios);
    }

    /// <summary>Ends a request that is counted.</summary>
    private void End(int tag)
    {
        ref RingRequest request = ref _requests[tag];
        ref IoRequest io = ref _ios[tag];
        int use = request.Use;
        if (use == 0)
            GiveBackFile(request.File!, io.Transferred);
        Complete(tag, ref request, io);
        if (use != 0)
            GiveBack(use, 1, io.Transferred);
    }

    /// <summary>
    /// What requests that have ended held. The order of T18: the device has completed and the driver has synced; now the map's references; the application
    /// sees the completions after that, when it reaps.
    /// </summary>
    [Diagnostics.HotPath]
    private void GiveBack(int id, int count, long bytes)
    {
        MapUse use = _uses[id]!;
        if (use.Map is { } map)
            DmaBufToken.Drop(map, _context, count);
        IoCounters counters = _context.Counters;
        counters.Completed += count;
        counters.Bytes += bytes;
        Registration registration = use.Registration;
        registration.RingFile.InFlight -= count;
        if ((registration.InFlight -= count) == 0 && registration.IsRemoved)
            Finish(registration);
    }

    [Diagnostics.HotPath]
    private void GiveBackFile(IoFile file, long bytes)
    {
        _context.Counters.Completed++;
        _context.Counters.Bytes += bytes;
        FindFile(file)!.InFlight--;
    }

    private void Complete(int tag, ref RingRequest request, in IoRequest io)
    {
        if (_isVisit)
        {
            request.State = RequestState.Ended;
            _endedInVisit.Add(tag);
            return;
        }

        request.State = RequestState.Free;
        if (io.Status != Errno.Ok)
            _context.Counters.Failed++;
        BounceReason bounce = _bounced is null ? BounceReason.None : TakeBounceReason(tag);
        if (_asyncOutstanding != 0 && _async[tag] is { } awaited)
            CompleteAwaited(tag, awaited, io, bounce);
        else
            _ended.Add(new RingCompletion(request.UserData, io.Status, io.Transferred) { Bounce = bounce });
        _free[_freeCount++] = tag;
    }
}
