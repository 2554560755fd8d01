using System.Diagnostics;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.ContractTests;

/// <summary>Waits for what takes long, because it is much, and not because any of it does: a device may be slow, a machine loaded.</summary>
internal static class Progress
{
    /// <summary>Waits for actors that count what they have done. A rule is broken when nothing is done for as long as a single thing may take. What they have thrown comes out here.</summary>
    /// <param name="world">Where a broken rule is told.</param>
    /// <param name="actors">The actors.</param>
    /// <param name="done">What they have done so far; any thread.</param>
    /// <param name="rule">The rule's number.</param>
    /// <param name="did">What the driver did when nothing comes, as a sentence.</param>
    internal static void JoinAll(this ContractWorld world, IReadOnlyList<IActor> actors, Func<long> done, string rule, string did)
    {
        while (actors.Any(static a => !a.HasEnded))
        {
            long seen = done();
            world.Eventually(() => done() != seen || actors.All(static a => a.HasEnded), rule, did);
        }

        foreach (IActor actor in actors)
            actor.Join();
    }

    /// <summary>Waits for an actor for as long as devices map and move something.</summary>
    /// <param name="world">Where they do.</param>
    /// <param name="actor">The actor.</param>
    /// <param name="limit">How long nothing may happen.</param>
    /// <returns>False when nothing has happened for that long.</returns>
    internal static bool UntilEnded(this ContractWorld world, IActor actor, TimeSpan limit)
    {
        IommuCounters seen = world.Iommu.Counters;
        long happened = Stopwatch.GetTimestamp();
        long looked = happened;
        var spin = default(SpinWait);
        while (!actor.HasEnded)
        {
            spin.SpinOnce();
            if (Stopwatch.GetElapsedTime(looked) < limit / 64)
                continue;
            looked = Stopwatch.GetTimestamp();
            if (world.Iommu.Counters != seen)
            {
                seen = world.Iommu.Counters;
                happened = looked;
            }
            else if (Stopwatch.GetElapsedTime(happened) > limit)
            {
                return actor.HasEnded;
            }
        }

        return true;
    }
}
