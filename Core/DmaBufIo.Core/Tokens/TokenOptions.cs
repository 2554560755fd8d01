using DmaBufIo.DmaBufs;
using DmaBufIo.Sync;

namespace DmaBufIo.Tokens;

/// <summary>How an invalidation makes sure that nobody uses the old addresses (PROTOCOL §5).</summary>
public enum InvalidationDesign
{
    /// <summary>Kill the map and wait there until the last request has dropped its reference; unmap later. The default.</summary>
    Draining,

    /// <summary>Kill the map, leave a fence on the reservation object and return; the fence signals when the last request has dropped its reference.</summary>
    Fenced,
}

/// <summary>How tokens behave. The two designs share everything but what an invalidation leaves behind.</summary>
public sealed record TokenOptions
{
    /// <summary>Draining, kernel fences.</summary>
    public static TokenOptions Default { get; } = new();

    /// <summary>The design of invalidation.</summary>
    public InvalidationDesign Design { get; init; }

    /// <summary>Fenced design: the class of the fence that a killed map leaves behind. Changing it does not cure the design, it only changes who waits (D2, D3).</summary>
    public FenceUsage FenceUsage { get; init; } = FenceUsage.Kernel;

    /// <summary>
    /// Fenced design: true signals the fence of a drained map on a worker, as the patch series does, so that its failure can be reproduced: workers that are all
    /// blocked on a lock keep the holder's fence from signalling (D2b). False signals it where the last request ends.
    /// </summary>
    public bool SignalOnWorker { get; init; }

    /// <summary>
    /// The last class of fences that must have signalled before a map is made (T12). <see cref="FenceUsage.Write"/> is what the kernel's documentation
    /// asks of dynamic importers; the patch series waits for <see cref="FenceUsage.Kernel"/>. Jobs that start after the map was made are the
    /// application's to order.
    /// </summary>
    public FenceUsage WaitBeforeMap { get; init; } = FenceUsage.Write;

    /// <summary>The workers that unmap and release; null for the process's own. No holder of a reservation lock may wait for them.</summary>
    public WorkQueue? Workers { get; init; }
}
