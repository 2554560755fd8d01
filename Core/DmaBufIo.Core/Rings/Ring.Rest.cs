using DmaBufIo.Diagnostics;
using DmaBufIo.Io;

namespace DmaBufIo.Rings;

/// <content>Coming to rest, for whoever waits for several rings (<see cref="RingGroup"/>).</content>
public sealed partial class Ring
{
    /// <summary>Looks whether requests are in flight that will end by themselves, and reaps where the owner has not come by since the last look.</summary>
    /// <param name="rest">What was seen of this ring in the same wait.</param>
    /// <returns>True when none are.</returns>
    internal bool LookForRest(RingRest rest)
    {
        if (_driver is not null)
            return _driver.Outstanding == 0;
        bool comesBy = rest.Look(_context.Reaps);
        if (comesBy && InFlight > 0)
            return false;
        int left = 0;
        try
        {
            // As the owner, so that nothing is started meanwhile and the count is one of a moment.
            _context.Visit(() =>
            {
                ((IPollable)this).PollAsVisitor();
                left = CountInFlight() - (rest.HasOwner ? 0 : _parked.Count);
            });
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // A device that throws has ended nothing; the owner hears of it by itself.
            DmaBufIoDiagnostics.Report(new DriverFault($"a look at the devices of {Name}", e));
            return false;
        }

        return left <= 0;
    }

    // Requests are prepared outside the context, so one may be just now: what is prepared is read first, and one too many is counted rather than one too few.
    private int CountInFlight()
    {
        int prepared = Volatile.Read(ref _preparedTail) - Volatile.Read(ref _preparedHead);
        return _requests.Length - Volatile.Read(ref _freeCount) - prepared - _endedInVisit.Count;
    }
}

/// <summary>What a wait for rings has seen of one.</summary>
/// <param name="reaps">How often its owner had looked at the queues when the wait began.</param>
internal sealed class RingRest(long reaps)
{
    // Some dozen milliseconds of a polling wait: an owner that works its ring has come by long before.
    private const int Patience = 100;

    private readonly long _first = reaps;
    private long _last = reaps;
    private int _looks;

    /// <summary>True as long as somebody may be working the ring: its owner has come by since the wait began, or has not had much time to.</summary>
    internal bool HasOwner => _last != _first || _looks < Patience;

    /// <summary>Notes a look.</summary>
    /// <returns>True when the owner has come by since the last one.</returns>
    internal bool Look(long reaps)
    {
        _looks++;
        bool comesBy = reaps != _last;
        _last = reaps;
        return comesBy;
    }
}
