namespace DmaBufIo.Diagnostics;

/// <summary>Looks into the framework while it runs. A hang tells nothing by itself: this tells who holds, who waits, and since when.</summary>
public static class DmaBufIoDiagnostics
{
    private static long s_thresholdMilliseconds = 1000;

    /// <summary>Raised once per wait that lasts longer than <see cref="WaitThreshold"/>, on the waiting thread. Handlers must not block.</summary>
    public static event Action<LongWait>? LongWaitDetected;

    /// <summary>Raised when a driver's callback threw where nobody can be told: unmapping, release. Core goes on; what the driver held may be leaked.</summary>
    public static event Action<DriverFault>? DriverFaulted;

    /// <summary>Raised for each part of a request that fails on a member of a set, on the thread that hears of it, perhaps in completion context. Handlers must not block.</summary>
    public static event Action<MemberFault>? MemberFaulted;

    /// <summary>How long a thread may wait inside Core before <see cref="LongWaitDetected"/> is raised. One second at first; at least one millisecond.</summary>
    public static TimeSpan WaitThreshold
    {
        get => TimeSpan.FromMilliseconds(Volatile.Read(ref s_thresholdMilliseconds));
        set => Volatile.Write(ref s_thresholdMilliseconds, Math.Max(1, (long)value.TotalMilliseconds));
    }

    /// <summary>
    /// Every reservation lock with holder and waiters, unsignalled fences, tokens with their live map, users and age of the oldest request,
    /// killed maps and what keeps them. Safe from any thread at any time, also while everything else hangs: it takes no lock that is held across a wait.
    /// </summary>
    public static Snapshot Snapshot()
    {
        var builder = new SnapshotBuilder();
        ISnapshotSource[] sources = SnapshotRegistry.All();

        // Rings first: tokens report the ages that the rings know.
        foreach (ISnapshotSource source in sources)
        {
            if (source is IRequestSource)
                source.Describe(builder);
        }

        foreach (ISnapshotSource source in sources)
        {
            if (source is not IRequestSource)
                source.Describe(builder);
        }

        return new Snapshot([.. builder.Locks], [.. builder.Fences], [.. builder.Tokens], [.. builder.KilledMaps], [.. builder.Waits]);
    }

    internal static void Report(LongWait wait)
    {
        try
        {
            LongWaitDetected?.Invoke(wait);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // The waiting thread may be half-way into a lock; a handler's mistake is reported like a driver's and does not end the wait.
            Report(new DriverFault(nameof(LongWaitDetected), e));
        }
    }

    /// <summary>A part of a request has failed on a member of a set. Called by stacking drivers, also in completion context.</summary>
    /// <param name="fault">What happened where.</param>
    public static void Report(MemberFault fault)
    {
        Counters.MemberFaults.Add();
        try
        {
            MemberFaulted?.Invoke(fault);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            Report(new DriverFault(nameof(MemberFaulted), e));
        }
    }

    /// <summary>Reports what was thrown where nobody can be told: by Core for callbacks of drivers, by drivers for threads of their own. Any thread; does not throw.</summary>
    /// <param name="fault">What was thrown, and where.</param>
    public static void Report(DriverFault fault)
    {
        Counters.DriverFaults.Add();
        try
        {
            DriverFaulted?.Invoke(fault);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // Who hears of faults has one of its own. There is nobody left to tell but the counter, and the caller must not be cut off here.
            Counters.DriverFaults.Add();
        }
    }
}

/// <summary>A source that knows requests; described before the others.</summary>
public interface IRequestSource : ISnapshotSource;

/// <summary>A wait that has passed the threshold.</summary>
/// <param name="Thread">The waiting thread.</param>
/// <param name="WaitsFor">What it waits for, with the holder where there is one.</param>
/// <param name="Waited">How long so far.</param>
public sealed record LongWait(string Thread, string WaitsFor, TimeSpan Waited);

/// <summary>A part of a request that failed on one member of a set.</summary>
/// <param name="Set">The set.</param>
/// <param name="Member">The member.</param>
/// <param name="Status">With what.</param>
/// <param name="Offset">First byte on the member.</param>
/// <param name="Length">Bytes; 0 for a flush.</param>
public sealed record MemberFault(string Set, string Member, Errors.Errno Status, long Offset, long Length);

/// <summary>A driver's callback that threw.</summary>
/// <param name="Callback">Which callback of which object.</param>
/// <param name="Exception">What it threw.</param>
public sealed record DriverFault(string Callback, Exception Exception);
