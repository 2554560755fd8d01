using System.Numerics;
using System.Runtime.InteropServices;
using DmaBufIo.Diagnostics;
using DmaBufIo.Rdma;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Queues;

/// <summary>One posted work request.</summary>
internal struct WorkEntry
{
    internal RdmaWorkRequest Request;

    /// <summary>The local memory, where a ring's registration stands for it; else the local key does.</summary>
    internal DmaBufToken? Token;
}

/// <summary>A send or receive queue: a ring from the poster to the card. One thread posts, the card takes (under its link's lock), one thread reaps. No lock, no interlocked instruction.</summary>
/// <remarks>
/// An entry is written before the tail that covers it (release), read after the tail (acquire), and written again only when its completion was reaped. So there are never more completions than the depth.
/// </remarks>
internal sealed class WorkRing
{
    private readonly WorkEntry[] _entries;
    private readonly int _depth;
    private Counts _counts;

    internal WorkRing(int depth)
    {
        _depth = depth;
        _entries = new WorkEntry[BitOperations.RoundUpToPowerOf2((uint)depth)];
    }

    /// <summary>Nothing is posted that the card has not ended. For the card, and for hints.</summary>
    internal bool IsEmpty => Volatile.Read(ref _counts.Head) == Volatile.Read(ref _counts.Tail);

    /// <summary>Every request that was ever posted has been reaped.</summary>
    internal bool IsReaped => Volatile.Read(ref _counts.Reaped) == Volatile.Read(ref _counts.Tail);

    /// <summary>The oldest request that the card has not ended. For the card, when there is one.</summary>
    internal ref WorkEntry Head => ref _entries[_counts.Head & (_entries.Length - 1)];

    /// <summary>For the poster.</summary>
    /// <returns>False when the queue is full.</returns>
    [HotPath]
    internal bool TryPost(in RdmaWorkRequest request, DmaBufToken? token)
    {
        int tail = _counts.Tail;
        if (tail - Volatile.Read(ref _counts.Reaped) >= _depth)
            return false;
        ref WorkEntry entry = ref _entries[tail & (_entries.Length - 1)];
        entry.Request = request;
        if (!ReferenceEquals(entry.Token, token))
            entry.Token = token;
        Volatile.Write(ref _counts.Tail, tail + 1);
        return true;
    }

    /// <summary>The card has ended the oldest request.</summary>
    internal void RemoveHead() => Volatile.Write(ref _counts.Head, _counts.Head + 1);

    /// <summary>The poller has taken completions.</summary>
    [HotPath]
    internal void Reap(int count) => Volatile.Write(ref _counts.Reaped, _counts.Reaped + count);

    /// <summary>True when a request that the card has not ended names the key. Under the link's lock.</summary>
    internal bool Names(uint localKey)
    {
        int tail = Volatile.Read(ref _counts.Tail);
        for (int i = _counts.Head; i != tail; i++)
        {
            ref WorkEntry entry = ref _entries[i & (_entries.Length - 1)];
            if (entry.Token is null && entry.Request.LocalKey == localKey)
                return true;
        }

        return false;
    }

    // Three writers, three cache lines, each with its prefetched neighbour.
    [StructLayout(LayoutKind.Explicit, Size = 512)]
    private struct Counts
    {
        [FieldOffset(128)]
        internal int Tail;

        [FieldOffset(256)]
        internal int Head;

        [FieldOffset(384)]
        internal int Reaped;
    }
}
