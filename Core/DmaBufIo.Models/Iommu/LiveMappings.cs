using DmaBufIo.Dma;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// The live mappings of one device by address: a treap ordered by start, each node knowing the highest end below it, so that
/// overlapping mappings (the same memory mapped twice in passthrough mode) are found too. All operations are O(log n).
/// </summary>
/// <remarks>The nodes are the records themselves: no allocation. Not thread-safe: used under the domain's gate.</remarks>
internal sealed class LiveMappings
{
    private MappingRecord? _root;
    private long _lastOrder;

    public int Count { get; private set; }

    public void Add(MappingRecord record)
    {
        record.Order = ++_lastOrder;

        // A multiplicative hash of a counter: evenly spread priorities that are the same in every run.
        record.Priority = (uint)((ulong)record.Order * 0x9E3779B97F4A7C15UL >> 32);
        Update(record);
        _root = Insert(_root, record);
        Count++;
    }

    public void Remove(MappingRecord record)
    {
        _root = Remove(_root, record);
        record.Left = null;
        record.Right = null;
        Count--;
    }

    /// <summary>The mapping that covers the address, permits the access and reaches farthest; null when there is none.</summary>
    public MappingRecord? Find(ulong address, DmaDirection access = DmaDirection.None)
    {
        MappingRecord? best = null;
        Find(_root, address, access, ref best);
        return best;
    }

    /// <summary>The lowest start above an address, or <see cref="ulong.MaxValue"/>.</summary>
    public ulong NextStart(ulong address)
    {
        ulong next = ulong.MaxValue;
        for (MappingRecord? node = _root; node is not null;)
        {
            if (node.Start > address)
            {
                next = node.Start;
                node = node.Left;
            }
            else
            {
                node = node.Right;
            }
        }

        return next;
    }

    /// <summary>All live mappings by address.</summary>
    public List<MappingRecord> ToList()
    {
        var all = new List<MappingRecord>(Count);
        Collect(_root, all);
        return all;
    }

    private static void Find(MappingRecord? node, ulong address, DmaDirection access, ref MappingRecord? best)
    {
        for (; node is not null && node.MaxEnd > address; node = node.Right)
        {
            Find(node.Left, address, access, ref best);
            if (node.Start > address)
                return;
            if (node.End > address && node.Permits(access) && (best is null || node.End > best.End))
                best = node;
        }
    }

    private static void Collect(MappingRecord? node, List<MappingRecord> all)
    {
        for (; node is not null; node = node.Right)
        {
            Collect(node.Left, all);
            all.Add(node);
        }
    }

    private static bool IsBefore(MappingRecord a, MappingRecord b) =>
        a.Start != b.Start ? a.Start < b.Start : a.Order < b.Order;

    private static MappingRecord Insert(MappingRecord? node, MappingRecord added)
    {
        if (node is null)
            return added;
        if (added.Priority > node.Priority)
        {
            (added.Left, added.Right) = Split(node, added);
            Update(added);
            return added;
        }

        if (IsBefore(added, node))
            node.Left = Insert(node.Left, added);
        else
            node.Right = Insert(node.Right, added);
        Update(node);
        return node;
    }

    private static (MappingRecord? Before, MappingRecord? After) Split(MappingRecord? node, MappingRecord at)
    {
        if (node is null)
            return (null, null);
        if (IsBefore(node, at))
        {
            (node.Right, MappingRecord? after) = Split(node.Right, at);
            Update(node);
            return (node, after);
        }

        (MappingRecord? before, node.Left) = Split(node.Left, at);
        Update(node);
        return (before, node);
    }

    private static MappingRecord? Remove(MappingRecord? node, MappingRecord gone)
    {
        if (node is null)
            throw new InvalidOperationException($"The mapping {gone} is not among the live ones.");
        if (node == gone)
            return Merge(node.Left, node.Right);
        if (IsBefore(gone, node))
            node.Left = Remove(node.Left, gone);
        else
            node.Right = Remove(node.Right, gone);
        Update(node);
        return node;
    }

    private static MappingRecord? Merge(MappingRecord? before, MappingRecord? after)
    {
        if (before is null)
            return after;
        if (after is null)
            return before;
        if (before.Priority > after.Priority)
        {
            before.Right = Merge(before.Right, after);
            Update(before);
            return before;
        }

        after.Left = Merge(before, after.Left);
        Update(after);
        return after;
    }

    private static void Update(MappingRecord node) =>
        node.MaxEnd = Math.Max(node.End, Math.Max(node.Left?.MaxEnd ?? 0, node.Right?.MaxEnd ?? 0));
}
