using System.Numerics;

namespace DmaBufIo.Importers.NvmePci.Queues;

/// <summary>One command in flight, by its tag: one word, stored at once.</summary>
internal readonly struct Tracker
{
    private const ulong OwnRange = 1UL << 62;
    private const ulong NotInFlight = 1UL << 63;
    private readonly ulong _word;

    /// <summary>A command that is in flight from now on.</summary>
    /// <param name="bio">The bio's place in its pool.</param>
    /// <param name="ownRange">True when the bio's pages were mapped for this command alone.</param>
    /// <param name="startedAt">The low half of the context's milliseconds.</param>
    internal Tracker(int bio, bool ownRange, uint startedAt) => _word = startedAt | ((ulong)(uint)bio << 32) | (ownRange ? OwnRange : 0);

    private Tracker(ulong word) => _word = word;

    /// <summary>No command.</summary>
    internal static Tracker Free => new(NotInFlight);

    /// <summary>True when a command is in flight.</summary>
    internal bool IsInFlight => (long)_word >= 0;

    /// <summary>The bio's place in its pool.</summary>
    internal int Bio => (int)(_word >> 32) & 0x3FFF_FFFF;

    /// <summary>True when the bio's pages were mapped for this command alone.</summary>
    internal bool HasOwnRange => (_word & OwnRange) != 0;

    /// <summary>When it was submitted: the low half of the context's milliseconds.</summary>
    internal uint StartedAt => (uint)_word;
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
            tracker = Tracker.Free;
        for (int i = 0; i < count; i++)
            _free[i] = count - 1 - i;
        _freeCount = count;
    }

    /// <summary>How many there are.</summary>
    internal int Count => _free.Length;

    /// <summary>How many are free.</summary>
    internal int Free => _freeCount;

    /// <summary>The free tags, for loops: the last is taken first (<see cref="Took"/>), and returned tags are put behind (<see cref="Returned"/>).</summary>
    internal int[] FreeTags => _free;

    /// <summary>The trackers, for loops; places beyond the last tag are never in flight.</summary>
    internal Tracker[] Trackers => _trackers;

    /// <summary>How many are taken.</summary>
    internal int InFlight => _free.Length - _freeCount;

    /// <summary>The tracker of a tag.</summary>
    internal ref Tracker this[int tag] => ref _trackers[tag & (_trackers.Length - 1)];

    /// <summary>Takes a tag; the caller fills its tracker.</summary>
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

    /// <summary>Some tags at the end of <see cref="FreeTags"/> were taken.</summary>
    internal void Took(int count) => _freeCount -= count;

    /// <summary>Some tags were put behind the free ones.</summary>
    internal void Returned(int count) => _freeCount += count;

    /// <summary>True when a command with this identifier is in flight.</summary>
    internal bool IsInFlight(int tag)
    {
        // Places beyond the last tag are never in flight.
        Tracker[] trackers = _trackers;
        return (uint)tag < (uint)trackers.Length && trackers[tag].IsInFlight;
    }

    /// <summary>Gives a tag back.</summary>
    internal void Release(int tag)
    {
        this[tag] = Tracker.Free;
        Return(tag);
    }

    /// <summary>Gives a tag back whose tracker says already that it is free.</summary>
    internal void Return(int tag) => _free[_freeCount++] = tag;

    /// <summary>How long ago the oldest command in flight was submitted, in milliseconds; 0 when there is none. Looks at all tags.</summary>
    /// <param name="now">The low half of the clock's milliseconds: ages are differences and survive its wrapping.</param>
    internal uint OldestAge(uint now)
    {
        uint oldest = 0;
        foreach (ref readonly Tracker tracker in _trackers.AsSpan())
        {
            // The clock may have been read a moment before the context's.
            if (tracker.IsInFlight && (int)(now - tracker.StartedAt) > 0)
                oldest = Math.Max(oldest, now - tracker.StartedAt);
        }

        return oldest;
    }
}
