using DmaBufIo.Diagnostics;
using DmaBufIo.Io;

namespace DmaBufIo.Rings;

/// <content>Coming to rest, for whoever waits for several rings (<see cref="RingGroup"/>).</content>
public sealed partial class Ring
{
    /// <summary>Looks whether requests are in flight that will end by themselves, and reaps where the owner has not come by since the last look.</summary>
    /// <param name="seen">How often each ring's owner had come by at the last look.</param>
    /// <returns>True when none are.</returns>
    internal bool LookForRest(Dictionary<Ring, long> seen)
    {
        if (_driver is not null)
            return _driver.Outstanding == 0;
        long reaps = _context.Reaps;
        bool comesBy = seen.TryGetValue(this, out long before) && before != reaps;
        seen[this] = reaps;
        if (comesBy && InFlight > 0)
            return false;
        int left = 0;
        try
        {
            // As the owner, so that nothing is started meanwhile and the count is one of a moment.
            _context.Visit(() =>
            {
                ((IPollable)this).PollAsVisitor();
                left = CountInFlight() - (comesBy ? 0 : _parked.Count);
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
