namespace DmaBufIo.Diagnostics;

/// <summary>Who holds what and who waits for what, at one moment. Each object is consistent in itself; the whole is not one atomic cut.</summary>
/// <param name="Locks">Every living reservation lock.</param>
/// <param name="Fences">Every fence on a reservation object that has not signalled.</param>
/// <param name="Tokens">Every living token.</param>
/// <param name="KilledMaps">Every map that was killed and is not unmapped yet.</param>
/// <param name="Waits">Every thread that waits inside Core.</param>
public sealed record Snapshot(
    IReadOnlyList<LockState> Locks,
    IReadOnlyList<FenceState> Fences,
    IReadOnlyList<TokenState> Tokens,
    IReadOnlyList<KilledMapState> KilledMaps,
    IReadOnlyList<WaitState> Waits);

/// <summary>One reservation lock.</summary>
/// <param name="Buffer">The name of the reservation object's buffer.</param>
/// <param name="Holder">The thread that holds it, or null when it is free.</param>
/// <param name="HeldFor">Since when it is held; zero when it is free.</param>
/// <param name="Waiters">The threads that wait for it, next owner first.</param>
public sealed record LockState(string Buffer, string? Holder, TimeSpan HeldFor, IReadOnlyList<string> Waiters);

/// <summary>One fence that has not signalled.</summary>
/// <param name="Buffer">The buffer whose reservation object carries it.</param>
/// <param name="Fence">The fence's name: who signals it, context and sequence number.</param>
/// <param name="Usage">Its usage class.</param>
/// <param name="Age">Since when it is there.</param>
public sealed record FenceState(string Buffer, string Fence, string Usage, TimeSpan Age);

/// <summary>One token.</summary>
/// <param name="Token">The token's name.</param>
/// <param name="File">The file it is bound to.</param>
/// <param name="Buffer">The buffer it stands for.</param>
/// <param name="State">Live, releasing, released or dead (its device is gone).</param>
/// <param name="LiveGeneration">The generation of the live map, or null when there is none.</param>
/// <param name="Users">Requests that use the live map.</param>
/// <param name="OldestRequest">The age of the oldest request on the token's maps as its ring knows it; null when there is none.</param>
public sealed record TokenState(string Token, string File, string Buffer, string State, long? LiveGeneration, long Users, TimeSpan? OldestRequest);

/// <summary>One map that was killed and is not unmapped yet.</summary>
/// <param name="Token">The token that made it.</param>
/// <param name="Generation">Its generation.</param>
/// <param name="Users">Requests that still use it.</param>
/// <param name="KeptBy">What keeps it: requests in flight (with their rings), the unmap worker, or the reservation lock it waits for.</param>
public sealed record KilledMapState(string Token, long Generation, long Users, string KeptBy);

/// <summary>One waiting thread.</summary>
/// <param name="Thread">The thread.</param>
/// <param name="WaitsFor">What it waits for.</param>
/// <param name="Waited">Since when.</param>
public sealed record WaitState(string Thread, string WaitsFor, TimeSpan Waited);

/// <summary>Collects the parts of a snapshot.</summary>
public sealed class SnapshotBuilder
{
    /// <summary>Collected locks.</summary>
    public IList<LockState> Locks { get; } = new List<LockState>();

    /// <summary>Collected unsignalled fences.</summary>
    public IList<FenceState> Fences { get; } = new List<FenceState>();

    /// <summary>Collected tokens.</summary>
    public IList<TokenState> Tokens { get; } = new List<TokenState>();

    /// <summary>Collected killed maps.</summary>
    public IList<KilledMapState> KilledMaps { get; } = new List<KilledMapState>();

    /// <summary>Collected waits.</summary>
    public IList<WaitState> Waits { get; } = new List<WaitState>();

    /// <summary>Requests in flight per map, filled by the rings before tokens are described: map identity to (requests, age of the oldest, ring).</summary>
    public IDictionary<object, (int Requests, TimeSpan Oldest, string Ring)> InFlight { get; } =
        new Dictionary<object, (int Requests, TimeSpan Oldest, string Ring)>(ReferenceEqualityComparer.Instance);
}
