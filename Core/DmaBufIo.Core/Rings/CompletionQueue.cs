namespace DmaBufIo.Rings;

/// <summary>Completions that were not reaped yet, in order. Not shared; allocates nothing after construction.</summary>
/// <remarks>The ring sees to it that there are never more than it was made for.</remarks>
internal sealed class CompletionQueue
{
    private readonly RingCompletion[] _items;
    private int _head;
    private int _count;

    internal CompletionQueue(int capacity) =>
        _items = new RingCompletion[System.Numerics.BitOperations.RoundUpToPowerOf2((uint)capacity)];

    /// <summary>One that has no room, of a ring that hands out no completions: no plain request is ever taken.</summary>
    internal static CompletionQueue WithoutRoom => new(1) { _count = int.MaxValue };

    internal int Count => _count;

    [Diagnostics.HotPath]
    internal void Add(ulong userData, Errors.Errno status, long bytes)
    {
        RingCompletion[] items = _items;
        items[(_head + _count++) & (items.Length - 1)] = new RingCompletion(userData, status, bytes);
    }

    [Diagnostics.HotPath]
    internal void Add(in RingCompletion completion) => _items[(_head + _count++) & (_items.Length - 1)] = completion;

    /// <summary>Takes as many as there are and fit.</summary>
    [Diagnostics.HotPath]
    internal int Take(Span<RingCompletion> completions)
    {
        int taken = Math.Min(completions.Length, _count);
        int first = Math.Min(taken, _items.Length - _head);
        _items.AsSpan(_head, first).CopyTo(completions);
        _items.AsSpan(0, taken - first).CopyTo(completions[first..]);
        _head = (_head + taken) & (_items.Length - 1);
        _count -= taken;
        return taken;
    }
}
