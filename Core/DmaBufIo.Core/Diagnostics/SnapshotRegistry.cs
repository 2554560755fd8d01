namespace DmaBufIo.Diagnostics;

/// <summary>Something that appears in a snapshot: a lock, a token, a ring.</summary>
public interface ISnapshotSource
{
    /// <summary>Adds this object's state. Called on the thread that takes the snapshot; must not block on anything that sleeps.</summary>
    /// <param name="snapshot">Collects the state.</param>
    void Describe(SnapshotBuilder snapshot);
}

/// <summary>Knows every living object that appears in snapshots, without keeping any of them alive.</summary>
public static class SnapshotRegistry
{
    private static readonly Lock s_lock = new();
    private static readonly List<WeakReference<ISnapshotSource>> s_sources = [];
    private static int s_sweepAt = 64;

    /// <summary>Makes an object appear in snapshots for as long as it is reachable.</summary>
    /// <param name="source">The object.</param>
    public static void Add(ISnapshotSource source)
    {
        lock (s_lock)
        {
            if (s_sources.Count >= s_sweepAt)
            {
                s_sources.RemoveAll(static weak => !weak.TryGetTarget(out _));
                s_sweepAt = Math.Max(64, s_sources.Count * 2);
            }

            s_sources.Add(new WeakReference<ISnapshotSource>(source));
        }
    }

    /// <summary>Removes an object that ended in an orderly way.</summary>
    /// <param name="source">The object; absent ones are ignored.</param>
    public static void Remove(ISnapshotSource source)
    {
        lock (s_lock)
            s_sources.RemoveAll(weak => !weak.TryGetTarget(out ISnapshotSource? target) || ReferenceEquals(target, source));
    }

    internal static ISnapshotSource[] All()
    {
        lock (s_lock)
        {
            var living = new List<ISnapshotSource>(s_sources.Count);
            foreach (WeakReference<ISnapshotSource> weak in s_sources)
            {
                if (weak.TryGetTarget(out ISnapshotSource? source))
                    living.Add(source);
            }

            return [.. living];
        }
    }
}
