using DmaBufIo.Dma;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// A 4-level table from 48-bit device addresses to physical addresses: 512 entries of 64 bits per table, leaves of 4 KiB
/// in the lowest level, of 2 MiB and 1 GiB in the two above, laid out like Intel VT-d's second-level entries.
/// </summary>
/// <remarks>
/// All tables lie in one array of words, and an interior entry names the next table by its number in it, as a real one
/// names a physical page. Tables that become empty are reused, so mapping allocates nothing once the array has grown.
/// Not thread-safe: used under the domain's gate.
/// </remarks>
internal sealed class PageTable
{
    public const int PageShift = 12;
    public const int LargestLeafLevel = 3;
    public const ulong PageSize = 1UL << PageShift;

    private const ulong ReadBit = 1;
    private const ulong WriteBit = 2;
    private const ulong LargeBit = 1 << 7;
    private const ulong AddressMask = 0x000f_ffff_ffff_f000;
    private const int LevelShift = 9;
    private const int EntriesPerTable = 1 << LevelShift;
    private const int RootLevel = 4;
    private const int Root = 0;

    private readonly Stack<int> _freeTables = new();
    private ulong[] _words = new ulong[EntriesPerTable * 4];
    private int[] _used = new int[4];
    private int _tables = 1;

    /// <summary>Tables in use, the root included.</summary>
    public int TablesInUse => _tables - _freeTables.Count;

    /// <summary>The leaf entry for an address, or 0. The size of its page decides how much of the address is offset.</summary>
    public ulong Walk(ulong address, out int pageShift)
    {
        int table = Root;
        for (int level = RootLevel; level > 1; level--)
        {
            ulong entry = _words[Slot(table, address, level)];
            if (entry == 0 || (entry & LargeBit) != 0)
            {
                pageShift = ShiftOf(level);
                return entry;
            }

            table = TableOf(entry);
        }

        pageShift = PageShift;
        return _words[Slot(table, address, 1)];
    }

    /// <summary>Bits of an address below an entry of a level: 12, 21, 30 and 39.</summary>
    public static int ShiftOf(int level) => PageShift + (LevelShift * (level - 1));

    /// <summary>The level whose leaves have this many bits of offset.</summary>
    public static int LevelOf(int pageShift) => 1 + ((pageShift - PageShift) / LevelShift);

    /// <summary>Physical address of the page that a leaf entry maps.</summary>
    public static ulong PhysicalOf(ulong leaf) => leaf & AddressMask;

    /// <summary>The accesses that a leaf entry permits: read is towards the device, write is from it.</summary>
    public static DmaDirection PermissionOf(ulong leaf) => (DmaDirection)(leaf & (ReadBit | WriteBit));

    /// <summary>Enters a range; addresses and length are multiples of 4 KiB, nothing of it is mapped.</summary>
    public void Map(ulong address, ulong physical, ulong length, DmaDirection permission)
    {
        ulong bits = (ulong)permission;
        while (length > 0)
        {
            int level = LevelFor(address | physical, length);
            int shift = ShiftOf(level);
            ulong flags = level == 1 ? bits : bits | LargeBit;
            int leaf = Descend(address, level);
            int slot = Slot(leaf, address, level);
            int count = LeavesUpTo(slot, length >> shift);
            for (int i = 0; i < count; i++)
                Set(leaf, slot + i, (physical + ((ulong)i << shift)) | flags);
            address += (ulong)count << shift;
            physical += (ulong)count << shift;
            length -= (ulong)count << shift;
        }
    }

    /// <summary>Clears a range that was entered by one call of <see cref="Map"/>.</summary>
    public void Unmap(ulong address, ulong length)
    {
        Span<int> path = stackalloc int[RootLevel + 1];
        while (length > 0)
        {
            int level = FindLeafLevel(address, path);
            int slot = Slot(path[level], address, level);
            int count = ClearLeaves(path[level], slot, level, length >> ShiftOf(level));
            FreeEmptyTables(address, level, path);
            ulong cleared = (ulong)count << ShiftOf(level);
            address += cleared;
            length -= cleared;
        }
    }

    private static int LevelFor(ulong addresses, ulong length)
    {
        int level = LargestLeafLevel;
        while (level > 1 && ((addresses & ((1UL << ShiftOf(level)) - 1)) != 0 || length < 1UL << ShiftOf(level)))
            level--;
        return level;
    }

    // A run of leaves ends with its table, where the next larger leaf may begin.
    private static int LeavesUpTo(int slot, ulong wanted) => (int)Math.Min((ulong)(EntriesPerTable - (slot % EntriesPerTable)), wanted);

    private static int Slot(int table, ulong address, int level) =>
        (table * EntriesPerTable) + (int)((address >> ShiftOf(level)) & (EntriesPerTable - 1));

    private static int TableOf(ulong entry) => (int)(entry >> PageShift);

    private int Descend(ulong address, int toLevel)
    {
        int table = Root;
        for (int level = RootLevel; level > toLevel; level--)
        {
            int slot = Slot(table, address, level);
            ulong entry = _words[slot];
            if ((entry & LargeBit) != 0)
                throw new InvalidOperationException($"Device address 0x{address:x} is mapped already by an entry of level {level}.");
            if (entry == 0)
            {
                // The child first: taking it may grow the array of words.
                int child = TakeTable();
                Set(table, slot, ((ulong)child << PageShift) | ReadBit | WriteBit);
                table = child;
            }
            else
            {
                table = TableOf(entry);
            }
        }

        return table;
    }

    private int FindLeafLevel(ulong address, Span<int> path)
    {
        int table = Root;
        for (int level = RootLevel; ; level--)
        {
            path[level] = table;
            ulong entry = _words[Slot(table, address, level)];
            if (entry == 0)
                throw new InvalidOperationException($"Device address 0x{address:x} has no entry at level {level}.");
            if (level == 1 || (entry & LargeBit) != 0)
                return level;
            table = TableOf(entry);
        }
    }

    private void FreeEmptyTables(ulong address, int level, ReadOnlySpan<int> path)
    {
        for (; level < RootLevel && _used[path[level]] == 0; level++)
        {
            _freeTables.Push(path[level]);
            Clear(path[level + 1], Slot(path[level + 1], address, level + 1));
        }
    }

    /// <summary>Clears up to a number of leaves from a slot on, as long as they follow each other in one table.</summary>
    private int ClearLeaves(int table, int slot, int level, ulong wanted)
    {
        int limit = LeavesUpTo(slot, wanted);
        int count = 0;

        // Above the lowest level the next entry may be a table: the mapping goes on in smaller leaves.
        while (count < limit && (level == 1 || (_words[slot + count] & LargeBit) != 0))
            Clear(table, slot + count++);
        return count;
    }

    private void Set(int table, int slot, ulong entry)
    {
        if (_words[slot] != 0)
            throw new InvalidOperationException($"Entry {slot % EntriesPerTable} of table {table} is in use.");
        _words[slot] = entry;
        _used[table]++;
    }

    private void Clear(int table, int slot)
    {
        if (_words[slot] == 0)
            throw new InvalidOperationException($"Entry {slot % EntriesPerTable} of table {table} is clear already.");
        _words[slot] = 0;
        _used[table]--;
    }

    private int TakeTable()
    {
        if (_freeTables.TryPop(out int table))
            return table;
        if (_tables == _used.Length)
        {
            Array.Resize(ref _used, _tables * 2);
            Array.Resize(ref _words, _tables * 2 * EntriesPerTable);
        }

        return _tables++;
    }
}
