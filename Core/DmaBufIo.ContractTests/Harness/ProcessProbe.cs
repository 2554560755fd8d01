namespace DmaBufIo.ContractTests;

/// <summary>The descriptors and threads of this process at a moment, to find those that something has left behind.</summary>
internal sealed class ProcessProbe
{
    private readonly Dictionary<string, string> _descriptors;
    private readonly HashSet<string> _threads;

    private ProcessProbe(Dictionary<string, string> descriptors, HashSet<string> threads)
    {
        _descriptors = descriptors;
        _threads = threads;
    }

    internal static ProcessProbe Take() => new(Descriptors(), [.. Threads().Select(static t => t.Number)]);

    /// <summary>Descriptors that are open now and were not then, by what they lead to.</summary>
    internal IReadOnlyList<string> LeftDescriptors() =>
        [.. Descriptors().Where(d => !_descriptors.TryGetValue(d.Key, out string? before) || before != d.Value).Select(static d => d.Value)];

    /// <summary>Threads that run now and did not then, but for those of the runtime.</summary>
    internal IReadOnlyList<string> LeftThreads() => [.. Threads().Where(t => !_threads.Contains(t.Number)).Select(static t => t.Name)];

    private static Dictionary<string, string> Descriptors()
    {
        var found = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (string path in Directory.GetFiles("/proc/self/fd"))
        {
            // One is the listing's own, and gone.
            if (new FileInfo(path).LinkTarget is { } target && !target.StartsWith("/proc/", StringComparison.Ordinal))
                found[path] = target;
        }

        return found;
    }

    private static IEnumerable<(string Number, string Name)> Threads()
    {
        foreach (string path in Directory.GetDirectories("/proc/self/task"))
        {
            string name;
            try
            {
                name = File.ReadAllText(Path.Combine(path, "comm")).Trim();
            }
            catch (IOException)
            {
                continue; // it has ended meanwhile
            }

            // The runtime's: the pool, timers, finalizers, compilation.
            if (!name.StartsWith(".NET", StringComparison.Ordinal) && !name.StartsWith("dotnet-", StringComparison.Ordinal))
                yield return (Path.GetFileName(path), name);
        }
    }
}
