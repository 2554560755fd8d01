using System.Numerics;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// Hands out ranges of device addresses, in pages of 4 KiB. Page 0 is never handed out: an address of 0 is a forgotten one.
/// </summary>
/// <remarks>
/// Two-level segregated fit: free ranges hang in lists by size class, a bitmap finds the next class that has one, and two
/// dictionaries by first and by past-the-end page find the neighbours to coalesce with. Each step costs the same however many
/// ranges there are; only the last try before giving up looks at all of them. A range is cut from the top of the free one.
/// Freed ranges wait in a first-in-first-out queue before they can be handed out again, so that a stale access meets an address
/// that nothing is mapped at. Not thread-safe: used under the domain's gate.
/// </remarks>
internal sealed class DeviceAddressAllocator
{
    private const int SubclassBits = 4;
    private const int Subclasses = 1 << SubclassBits;
    private const int Classes = (48 - PageTable.PageShift - SubclassBits + 2) * Subclasses;
    private const int None = -1;

    private readonly int _reuseDelay;
    private readonly Queue<(ulong First, ulong Count)> _resting = new();
    private readonly Dictionary<ulong, int> _byFirst = [];
    private readonly Dictionary<ulong, int> _byEnd = [];
    private readonly int[] _heads = new int[Classes];
    private readonly ulong[] _occupied = new ulong[(Classes + 63) / 64];
    private FreeRange[] _ranges = new FreeRange[16];
    private int _rangeCount;
    private int _unusedRange = None;

    public DeviceAddressAllocator(int addressBits, int reuseDelay)
    {
        _reuseDelay = reuseDelay;
        Array.Fill(_heads, None);
        Add(1, (1UL << (addressBits - PageTable.PageShift)) - 1);
    }

    /// <summary>
    /// Takes a range whose first page is congruent to <paramref name="phase"/> modulo <paramref name="alignment"/> (a power of
    /// two).
    /// </summary>
    /// <returns>False when no free range fits, those at rest included.</returns>
    public bool TryAllocate(ulong count, ulong alignment, ulong phase, out ulong first)
    {
        if (TryAllocateFree(count, alignment, phase, out first))
            return true;
        if (_resting.Count == 0)
            return false;
        while (_resting.TryDequeue(out (ulong First, ulong Count) range))
            Release(range.First, range.Count);
        return TryAllocateFree(count, alignment, phase, out first);
    }

    /// <summary>Gives a range back whole. No IOTLB may hold a part of it any more.</summary>
    public void Free(ulong first, ulong count)
    {
        _resting.Enqueue((first, count));
        while (_resting.Count > _reuseDelay)
        {
            (ulong oldest, ulong length) = _resting.Dequeue();
            Release(oldest, length);
        }
    }

    private static int ClassOf(ulong count)
    {
        if (count < Subclasses)
            return (int)count;
        int log = BitOperations.Log2(count);
        return ((log - SubclassBits + 1) * Subclasses) + (int)((count >> (log - SubclassBits)) & (Subclasses - 1));
    }

    private static bool TryPlace(in FreeRange range, ulong count, ulong alignment, ulong phase, out ulong first)
    {
        first = 0;
        if (range.Count < count)
            return false;
        ulong last = range.First + range.Count - count;
        ulong excess = (last - phase) & (alignment - 1);
        first = last - excess;
        return excess <= last && first >= range.First;
    }

    private bool TryAllocateFree(ulong count, ulong alignment, ulong phase, out ulong first)
    {
        // Every range of this class or a higher one fits, wherever its alignment falls.
        ulong enough = count + alignment - 1;
        if (enough >= Subclasses)
            enough += (1UL << (BitOperations.Log2(enough) - SubclassBits)) - 1;
        int found = FirstAtOrAbove(ClassOf(enough));
        if (found != None && TryPlace(_ranges[found], count, alignment, phase, out first))
        {
            Take(found, first, count);
            return true;
        }

        // Nearly exhausted: a range of a lower class may fit by luck of its size and alignment.
        for (int i = FirstAtOrAbove(ClassOf(count)); i != None; i = Following(i))
        {
            if (!TryPlace(_ranges[i], count, alignment, phase, out first))
                continue;
            Take(i, first, count);
            return true;
        }

        first = 0;
        return false;
    }

    private int Following(int range)
    {
        int next = _ranges[range].Next;
        return next != None ? next : FirstAtOrAbove(ClassOf(_ranges[range].Count) + 1);
    }

    private int FirstAtOrAbove(int sizeClass)
    {
        if (sizeClass >= Classes)
            return None;
        int word = sizeClass / 64;
        ulong bits = _occupied[word] & (ulong.MaxValue << (sizeClass % 64));
        while (bits == 0)
        {
            if (++word == _occupied.Length)
                return None;
            bits = _occupied[word];
        }

        return _heads[(word * 64) + BitOperations.TrailingZeroCount(bits)];
    }

    private void Take(int index, ulong first, ulong count)
    {
        FreeRange range = _ranges[index];
        Remove(index);
        if (first > range.First)
            Add(range.First, first - range.First);
        ulong end = first + count;
        if (end < range.First + range.Count)
            Add(end, range.First + range.Count - end);
    }

    private void Release(ulong first, ulong count)
    {
        if (_byEnd.TryGetValue(first, out int before))
        {
            first = _ranges[before].First;
            count += _ranges[before].Count;
            Remove(before);
        }

        if (_byFirst.TryGetValue(first + count, out int after))
        {
            count += _ranges[after].Count;
            Remove(after);
        }

        Add(first, count);
    }

    private void Add(ulong first, ulong count)
    {
        int index = _unusedRange;
        if (index != None)
        {
            _unusedRange = _ranges[index].Next;
        }
        else
        {
            if (_rangeCount == _ranges.Length)
                Array.Resize(ref _ranges, _rangeCount * 2);
            index = _rangeCount++;
        }

        int sizeClass = ClassOf(count);
        int head = _heads[sizeClass];
        _ranges[index] = new FreeRange { First = first, Count = count, Previous = None, Next = head };
        if (head != None)
            _ranges[head].Previous = index;
        _heads[sizeClass] = index;
        _occupied[sizeClass / 64] |= 1UL << (sizeClass % 64);
        _byFirst.Add(first, index);
        _byEnd.Add(first + count, index);
    }

    private void Remove(int index)
    {
        ref FreeRange range = ref _ranges[index];
        int sizeClass = ClassOf(range.Count);
        if (range.Next != None)
            _ranges[range.Next].Previous = range.Previous;
        if (range.Previous != None)
            _ranges[range.Previous].Next = range.Next;
        else
            _heads[sizeClass] = range.Next;
        if (_heads[sizeClass] == None)
            _occupied[sizeClass / 64] &= ~(1UL << (sizeClass % 64));
        _byFirst.Remove(range.First);
        _byEnd.Remove(range.First + range.Count);
        range.Next = _unusedRange;
        _unusedRange = index;
    }

    private struct FreeRange
    {
        public ulong First;
        public ulong Count;
        public int Previous;
        public int Next;
    }
}
