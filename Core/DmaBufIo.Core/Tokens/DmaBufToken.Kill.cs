using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Sync;

namespace DmaBufIo.Tokens;

/// <content>Killing maps: invalidation in both designs, reset, and the unmapping that follows when the last request has ended.</content>
public sealed partial class DmaBufToken
{
    /// <inheritdoc/>
    public void KillMaps()
    {
        if (Unpublish() is not { } map)
            return;
        RequestGate.Barrier();
        map.Gate.FinishKill();
    }

    /// <inheritdoc/>
    /// <remarks>
    /// Maps that are made later do without what was removed: they are not waited for. One whose making had begun is looked at again before it is published
    /// (<see cref="TokenDriver.IsCurrent"/>).
    /// </remarks>
    public void WaitUnmapped()
    {
        DmaMap[] killed;
        long making;
        lock (_lock)
        {
            killed = [.. _killed];
            making = _making ? _makings : 0;
        }

        bool AreGone()
        {
            lock (_lock)
                return !(_making && _makings == making) && !Array.Exists(killed, _killed.Contains);
        }

        var wait = new PollingWait(new WaitReason($"unmapping of {Name}", DescribeKilled));
        do
        {
            // The requests that keep a map may have ended in queues that nobody reaps (T14).
            foreach (DmaMap map in Undrained())
                GateDrain.Advance(map.Gate);
        }
        while (wait.Pause(_unmapped, AreGone, CancellationToken.None) != Errno.Ok);
    }

    /// <summary>The exporter wants the memory back. First phase; the batch does the rest (T17).</summary>
    internal void CollectInvalidation(InvalidationBatch batch, in HeldReservation held)
    {
        if (Unpublish() is { } map)
            batch.AddKilled(map.Gate);
        if (_options.Design == InvalidationDesign.Draining)
        {
            // All that are not drained, also those that a reset or the release has killed: returning while their requests run is D4.
            foreach (DmaMap killed in Undrained())
                batch.AddWait(killed.Gate, killed.ToString());
        }
        else
        {
            LeaveFences(held);
        }
    }

    /// <summary>Begins to kill the live map and takes it out of sight.</summary>
    private DmaMap? Unpublish()
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Publish, _number);
        lock (_lock)
        {
            DmaMap? map = _live;
            if (map is null)
                return null;

            // Killed first: who sees the map gone knows that it is dead, and what it hit has been counted.
            map.Gate.BeginKill();
            Volatile.Write(ref _live, null);
            _killed.Add(map);
            return map;
        }
    }

    private void LeaveFences(in HeldReservation held)
    {
        DmaMap[] killed;
        lock (_lock)
            killed = [.. _killed];
        Buffer.Reservation.Reserve(held, killed.Length);
        foreach (DmaMap map in killed)
        {
            DmaFence? fence = null;
            lock (_lock)
            {
                // The worker looks for the fence under the same lock. If it was here first, the map has drained and needs none.
                if (map is { FenceSettled: false, Fence: null })
                {
                    // A context of its own: sharing one, a later map's fence would replace this one while its I/O still runs (F2).
                    // Whoever waits for it reaps the queues in which its requests may sit (T14).
                    fence = new DmaFence($"{map}", DmaFence.NewContext(), 1, () => GateDrain.Advance(map.Gate));
                    map.Fence = fence;
                }
            }

            if (fence is not null)
                Buffer.Reservation.Add(held, fence, _options.FenceUsage);
        }
    }

    /// <summary>
    /// The last request of a killed map has ended; this may be completion context. The fence signals here and needs no worker: all of them may be
    /// blocked on locks whose holders wait for it (F3, D2b).
    /// </summary>
    private void Drained(DmaMap map, UnmapItem unmapping)
    {
        if (_options.SignalOnWorker)
        {
            Workers.Queue(unmapping);
            return;
        }

        SettleFence(map)?.Signal();
        Buffer.Reservation.Work.Queue(unmapping, Workers);
    }

    /// <summary>The fence that a killed map has left behind, or null; from here on it leaves none.</summary>
    private DmaFence? SettleFence(DmaMap map)
    {
        lock (_lock)
        {
            map.FenceSettled = true;
            return map.Fence;
        }
    }

    private void ForgetUnmapped(DmaMap map)
    {
        Counters.Unmaps.Add();
        bool last;
        lock (_lock)
        {
            _killed.Remove(map);
            last = IsOverLocked();
        }

        _unmapped.WakeAll();

        // The driver's release may take its time: this thread has other maps of the buffer to unmap.
        if (last)
            Workers.Queue(new ReleaseItem(this));
    }

    private void CallUnmap(DmaMap map, in HeldReservation held)
    {
        try
        {
            _driver.Unmap(map, held);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // Nobody can be told, and the token must still come to its end (T10).
            DmaBufIoDiagnostics.Report(new DriverFault($"Unmap of {map}", e));
        }
    }

    private DmaMap[] Undrained()
    {
        lock (_lock)
            return [.. _killed.Where(static m => !m.Gate.IsDrained)];
    }

    private string DescribeKilled()
    {
        lock (_lock)
            return string.Join(", ", _killed.Select(static m => $"{m}: {(m.Gate.IsDrained ? "drained" : $"{m.Gate.Users} requests")}"));
    }
}
