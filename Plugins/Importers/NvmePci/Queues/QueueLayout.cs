using DmaBufIo.Importers.NvmePci.Protocol;

namespace DmaBufIo.Importers.NvmePci.Queues;

/// <summary>Where the parts of a queue pair lie in its memory: submission entries, completion entries, PRP lists per tag.</summary>
internal readonly record struct QueueLayout
{
    /// <summary>Computes the layout.</summary>
    /// <param name="depth">Commands in flight, 1 or more.</param>
    /// <param name="pageShift">The controller page as a power of two.</param>
    /// <param name="maxBytes">The largest transfer.</param>
    internal QueueLayout(int depth, int pageShift, int maxBytes)
    {
        // A queue is full with one entry left over (head = tail means empty), so that many commands need one entry more.
        Entries = depth + 1;
        ListSize = PrpList.MemoryFor(PrpList.EntriesFor(maxBytes, pageShift), pageShift);
        long page = 1L << pageShift;
        CompletionOffset = RoundUp(Entries * 64L, page);
        ListOffset = CompletionOffset + RoundUp(Entries * 16L, page);
        Length = ListOffset + RoundUp((long)depth * ListSize, page);
    }

    /// <summary>Entries of each of the two queues.</summary>
    internal int Entries { get; }

    /// <summary>Bytes of list memory per tag.</summary>
    internal int ListSize { get; }

    /// <summary>Where the completion entries begin; submission entries begin at 0.</summary>
    internal long CompletionOffset { get; }

    /// <summary>Where the lists begin.</summary>
    internal long ListOffset { get; }

    /// <summary>Bytes in all.</summary>
    internal long Length { get; }

    private static long RoundUp(long value, long unit) => (value + unit - 1) & -unit;
}
