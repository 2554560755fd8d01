using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Sync;

namespace DmaBufIo.Rings;

/// <summary>
/// Rings that are looked at together: how much they have done, what they have in flight, whether they have come to rest. A ring is in the group that its options name
/// (<see cref="RingOptions.Group"/>) from its making to its disposal. Any thread.
/// </summary>
public sealed class RingGroup
{
    private readonly Lock _lock = new();
    private readonly List<Ring> _rings = [];
    private readonly IoCounters _disposed = new();

    /// <summary>The rings that are open, in the order of making.</summary>
    public IReadOnlyList<Ring> Rings
    {
        get
        {
            lock (_lock)
                return [.. _rings];
        }
    }

    /// <summary>Requests in flight on all rings, a moment old.</summary>
    public int InFlight => Rings.Sum(static r => Math.Max(0, r.InFlight));

    /// <summary>What the rings have done so far, those included that are disposed: it never falls. Each ring's part is a moment old.</summary>
    /// <returns>A copy.</returns>
    public IoCounters Totals()
    {
        var total = new IoCounters();
        lock (_lock)
        {
            Add(total, _disposed);
            foreach (Ring ring in _rings)
                Add(total, ring.Counters);
        }

        return total;
    }

    /// <summary>
    /// Waits until no ring has requests in flight that will end by themselves. Reaps the rings that nobody else does (T14), without handing completions out: those stay
    /// for the ring's owner. Where the owner never comes by, requests that were sent back for want of room are not waited for, because only the owner issues them again; nor is
    /// anything that is prepared and not submitted. May sleep; not while holding a reservation lock or a map reference (T15).
    /// </summary>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns><c>Ok</c>, or <c>EINTR</c> when cancelled.</returns>
    public Errno WaitIdle(CancellationToken cancellationToken = default)
    {
        var nobody = new WaitQueue();
        var wait = new PollingWait(new WaitReason("rings that come to rest", () => $"{InFlight} requests in flight"));
        var seen = new Dictionary<Ring, RingRest>(ReferenceEqualityComparer.Instance);
        while (true)
        {
            bool isIdle = true;
            foreach (Ring ring in Rings)
            {
                if (!seen.TryGetValue(ring, out RingRest? rest))
                    seen.Add(ring, rest = new RingRest(ring.Context.Reaps));
                isIdle &= ring.LookForRest(rest);
            }

            Errno status = wait.Pause(nobody, () => isIdle, cancellationToken);
            if (status != Errno.EAGAIN)
                return status;
        }
    }

    internal void Add(Ring ring)
    {
        lock (_lock)
            _rings.Add(ring);
    }

    internal void Remove(Ring ring)
    {
        lock (_lock)
        {
            if (_rings.Remove(ring))
                Add(_disposed, ring.Counters);
        }
    }

    private static void Add(IoCounters total, IoCounters part)
    {
        total.Requests += part.Requests;
        total.Completed += part.Completed;
        total.Failed += part.Failed;
        total.Bytes += part.Bytes;
        total.Reissued += part.Reissued;
        total.Bounced += part.Bounced;
        total.BouncedBytes += part.BouncedBytes;
        total.Parts += part.Parts;
    }
}
