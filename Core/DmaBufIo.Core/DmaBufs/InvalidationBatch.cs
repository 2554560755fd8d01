using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Sync;

namespace DmaBufIo.DmaBufs;

/// <summary>Whoever has maps of a buffer and gives them up on demand: the importer's side of <c>invalidate_mappings</c>.</summary>
public interface IInvalidationTarget
{
    /// <summary>
    /// First phase: unpublishes the live map and begins to kill it, and names every map that the invalidation must wait for, also those
    /// that someone else has killed. Called with the reservation lock held; must not wait.
    /// </summary>
    /// <param name="batch">Collects the gates.</param>
    /// <param name="held">Proof that the buffer's lock is held.</param>
    void Invalidate(InvalidationBatch batch, in HeldReservation held);
}

/// <summary>
/// One invalidation over any number of tokens and buffers: kills all, pays one barrier, then waits for all (T17).
/// </summary>
/// <remarks>Made by an exporter that holds the lock of every buffer in it. Used once; disposed in any case.</remarks>
public sealed class InvalidationBatch : IDisposable
{
    private readonly List<RequestGate> _killed = [];
    private readonly List<(RequestGate Gate, string Map)> _waits = [];
    private bool _completed;

    /// <summary>A gate whose kill the caller has begun.</summary>
    /// <param name="gate">The gate.</param>
    public void AddKilled(RequestGate gate) => _killed.Add(gate);

    /// <summary>A gate that must have drained before the invalidation returns (draining design).</summary>
    /// <param name="gate">The gate; its kill has begun, here or elsewhere.</param>
    /// <param name="map">The map's name, for snapshots.</param>
    public void AddWait(RequestGate gate, string map) => _waits.Add((gate, map));

    /// <summary>Second phase: the barrier, then the waits. Sleeps until the last request that used any of the maps has dropped its reference.</summary>
    /// <returns>What was hit.</returns>
    /// <exception cref="DmaBufIoException">The thread may not sleep here, for instance because it holds a map reference itself (T15).</exception>
    public InvalidationReport Complete()
    {
        if (_completed)
            throw new InvalidOperationException("An invalidation batch is completed once.");
        long users = FinishKills(wait: _waits.Count != 0 && !NoSleepContext.IsActive);
        foreach ((RequestGate gate, string map) in _waits)
            GateDrain.Drain(gate, new WaitReason($"drain of {map}", () => $"{gate.Users} requests"));
        return new InvalidationReport(_killed.Count, users);
    }

    /// <summary>Ends a batch that was not completed: what was killed is killed for good, or its maps would never drain. Waits for nobody.</summary>
    public void Dispose()
    {
        if (!_completed)
            FinishKills(wait: false);
    }

    private long FinishKills(bool wait)
    {
        _completed = true;
        long users = 0;
        if (_killed.Count == 0)
            return users;

        // Who waits for the drain reaps what nobody else does, and its visits can share the barrier.
        long question = ContextFence.Ask();
        List<IoContext> announced = wait ? GateDrain.Announce(_killed) : [];
        try
        {
            ContextFence.Await(question, visits: announced.Exists(static c => !c.IsOwnedByCaller()));
            foreach (RequestGate gate in _killed)
                users += Math.Max(gate.UsersAtKill, gate.FinishKill());
        }
        finally
        {
            GateDrain.ReapAnnounced(announced);
        }

        return users;
    }
}

/// <summary>What an invalidation hit.</summary>
/// <param name="KilledMaps">Live maps that it killed.</param>
/// <param name="Users">Requests that were using them at that moment.</param>
public readonly record struct InvalidationReport(int KilledMaps, long Users);
