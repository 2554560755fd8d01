using DmaBufIo.Dma;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// A 4-level table from 48-bit device addresses to physical addresses: 512 entries of 64 bits per table, leaves of 4 KiB
/// in the lowest level and of 2 MiB in the one above, laid out like Intel VT-d's second-level entries.
/// </summary>
/// <remarks>
/// All tables lie in one array of words, and an interior entry names the next table by its number in it, as a real one
/// names a physical page. Tables that become empty are reused, so mapping allocates nothing once the array has grown.
/// Not thread-safe: used under the domain's gate.
/// </remarks>
internal sealed class PageTable
{
    public const int PageShift = 12;
    public const int LargeShift = 21;
    public const ulong PageSize = 1UL << PageShift;
    public const ulong LargeSize = 1UL << LargeShift;

    private const ulong ReadBit = 1;
    private const ulong WriteBit = 2;
    private const ulong LargeBit = 1 << 7;
    private const ulong AddressMask = 0x000f_ffff_ffff_f000;
    private const int EntriesPerTable = 512;
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
                pageShift = LargeShift;
                return entry;
            }

            table = TableOf(entry);
        }

        pageShift = PageShift;
        return _words[Slot(table, address, 1)];
    }

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
            if (((address | physical) & (LargeSize - 1)) == 0 && length >= LargeSize)
            {
                int table = Descend(address, 2);
                Set(table, Slot(table, address, 2), physical | bits | LargeBit);
                address += LargeSize;
                physical += LargeSize;
                length -= LargeSize;
                continue;
            }

            int leaf = Descend(address, 1);
            int slot = Slot(leaf, address, 1);
            int count = LeavesUpTo(slot, length);
            for (int i = 0; i < count; i++)
                Set(leaf, slot + i, (physical + ((ulong)i << PageShift)) | bits);
            address += (ulong)count << PageShift;
            physical += (ulong)count << PageShift;
            length -= (ulong)count << PageShift;
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
            int count = level == 1 ? LeavesUpTo(slot, length) : 1;
            for (int i = 0; i < count; i++)
                Clear(path[level], slot + i);
            FreeEmptyTables(address, level, path);
            ulong cleared = (ulong)count << (level == 1 ? PageShift : LargeShift);
            address += cleared;
            length -= cleared;
        }
    }

    // A table of leaves spans 2 MiB, so a run of leaves that begins inside one ends at the next possible 2 MiB leaf.
    private static int LeavesUpTo(int slot, ulong length) =>
        (int)Math.Min((ulong)(EntriesPerTable - (slot % EntriesPerTable)), length >> PageShift);

    private static int Slot(int table, ulong address, int level) =>
        (table * EntriesPerTable) + (int)((address >> (PageShift + (9 * (level - 1)))) & (EntriesPerTable - 1));

    private static int TableOf(ulong entry) => (int)(entry >> PageShift);

    private int Descend(ulong address, int toLevel)
    {
        int table = Root;
        for (int level = RootLevel; level > toLevel; level--)
        {
            int slot = Slot(table, address, level);
            ulong entry = _words[slot];
            if ((entry & LargeBit) != 0)
                throw new InvalidOperationException($"Device address 0x{address:x} is mapped already by a 2 MiB entry.");
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
