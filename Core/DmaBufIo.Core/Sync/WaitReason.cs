using System.Diagnostics;
using DmaBufIo.Diagnostics;

namespace DmaBufIo.Sync;

/// <summary>What a thread waits for, for snapshots and reports of long waits.</summary>
/// <param name="What">The thing waited for, for example "reservation lock of buffer b0".</param>
/// <param name="Detail">Tells more at the time of the report (the holder, the users), or null. Must not block.</param>
public readonly record struct WaitReason(string What, Func<string>? Detail = null)
{
    /// <summary>True for a worker without work: never reported.</summary>
    public bool IsIdle { get; init; }

    /// <summary>When the wait began, when this is a part of a longer one that reports itself; else 0.</summary>
    internal long Since { get; init; }

    /// <summary>The whole text.</summary>
    public string Describe() => Detail is null ? What : $"{What} ({Detail()})";
}

/// <summary>One wait of one thread, over all its parks.</summary>
internal struct Wait
{
    private static readonly TimeSpan s_longest = TimeSpan.FromDays(1);
    private bool _reported;

    internal Wait(in WaitReason reason)
    {
        Reason = reason;
        Since = reason.Since != 0 ? reason.Since : Stopwatch.GetTimestamp();
        _reported = reason.IsIdle || reason.Since != 0;
    }

    internal WaitReason Reason { get; }

    internal long Since { get; }

    /// <summary>How long until the wait passes the threshold; MaxValue once it was reported.</summary>
    internal readonly TimeSpan UntilReport()
    {
        if (_reported)
            return TimeSpan.MaxValue;

        // Whole milliseconds, as the monitor counts them (a part of one would be no wait at all), and no more of them than it takes.
        double left = Math.Ceiling((DmaBufIoDiagnostics.WaitThreshold - Stopwatch.GetElapsedTime(Since)).TotalMilliseconds);
        return TimeSpan.FromMilliseconds(Math.Clamp(left, 0, s_longest.TotalMilliseconds));
    }

    internal void ReportOnce(string thread)
    {
        TimeSpan waited = Stopwatch.GetElapsedTime(Since);
        if (_reported || waited < DmaBufIoDiagnostics.WaitThreshold)
            return;
        _reported = true;
        DmaBufIoDiagnostics.Report(new LongWait(thread, Reason.Describe(), waited));
    }
}
