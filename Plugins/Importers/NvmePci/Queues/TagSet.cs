using System.Numerics;

namespace DmaBufIo.Importers.NvmePci.Queues;

/// <summary>One command in flight, by its tag. 16 bytes.</summary>
internal struct Tracker
{
    /// <summary>The bio's place in its pool; -1 while the tag is free.</summary>
    internal int Bio;

    /// <summary>True when the bio's pages were mapped for this command alone.</summary>
    internal bool HasOwnRange;

    /// <summary>When it was submitted: the context's milliseconds.</summary>
    internal long StartedAt;
}

/// <summary>The tags of a queue, which are its command identifiers, with their trackers. Used by the context's current owner; allocates
/// nothing after construction.</summary>
internal sealed class TagSet
{
    private readonly Tracker[] _trackers;
    private readonly int[] _free;
    private int _freeCount;

    /// <summary>Creates the tags 0 to <paramref name="count"/> - 1, all free.</summary>
    internal TagSet(int count)
    {
        // A power of two, so that a mask stands in for the check of a command identifier that a device made up.
        _trackers = new Tracker[BitOperations.RoundUpToPowerOf2((uint)count)];
        _free = new int[count];
        foreach (ref Tracker tracker in _trackers.AsSpan())
            tracker.Bio = -1;
        for (int i = 0; i < count; i++)
            _free[i] = count - 1 - i;
        _freeCount = count;
    }

    /// <summary>How many there are.</summary>
    internal int Count => _free.Length;

    /// <summary>How many are taken.</summary>
    internal int InFlight => _free.Length - _freeCount;

    /// <summary>The tracker of a tag.</summary>
    [Diagnostics.HotPath]
    internal ref Tracker this[int tag] => ref _trackers[tag & (_trackers.Length - 1)];

    /// <summary>Takes a tag; the caller fills its tracker.</summary>
    [Diagnostics.HotPath]
    internal bool TryTake(out int tag)
    {
        if (_freeCount == 0)
        {
            tag = 0;
            return false;
        }

        tag = _free[--_freeCount];
        return true;
    }

    /// <summary>True when a command with this identifier is in flight.</summary>
    [Diagnostics.HotPath]
    internal bool IsInFlight(int tag)
    {
        // Places beyond the last tag are never in flight.
        Tracker[] trackers = _trackers;
        return (uint)tag < (uint)trackers.Length && trackers[tag].Bio >= 0;
    }

    /// <summary>Gives a tag back.</summary>
    internal void Release(int tag)
    {
        this[tag].Bio = -1;
        Return(tag);
    }

    /// <summary>Gives a tag back whose tracker says already that it is free.</summary>
    [Diagnostics.HotPath]
    internal void Return(int tag) => _free[_freeCount++] = tag;

    /// <summary>When the oldest command in flight was submitted; <see cref="long.MaxValue"/> when there is none. Looks at all
    /// tags.</summary>
    internal long OldestStart()
    {
        long oldest = long.MaxValue;
        foreach (ref readonly Tracker tracker in _trackers.AsSpan())
        {
            if (tracker.Bio >= 0)
                oldest = Math.Min(oldest, tracker.StartedAt);
        }

        return oldest;
    }
}
