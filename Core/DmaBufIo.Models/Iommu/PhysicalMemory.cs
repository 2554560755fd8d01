using System.Runtime.CompilerServices;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// The memory bus: gives each region a physical base when it is first seen, and finds the region behind a physical address.
/// Bases are unique and never reused; a gap follows each region, so that an overrun meets nothing.
/// </summary>
/// <remarks>
/// Regions are held weakly: being known here keeps no memory allocated. Lookups take no lock: bases only grow, so the array is
/// sorted by appending, an entry is written before the count that makes it visible (release/acquire), and growing publishes a new array.
/// </remarks>
internal sealed class PhysicalMemory
{
    private const ulong FirstBase = 1 << 20;

    private readonly Lock _gate = new();
    private readonly ConditionalWeakTable<MemoryRegion, object> _bases = [];
    private readonly ulong _limit;
    private ulong _nextBase = FirstBase;
    private Table _table = new(64);

    /// <param name="addressBits">Bits of a physical address.</param>
    public PhysicalMemory(int addressBits) => _limit = 1UL << addressBits;

    /// <summary>
    /// The physical address of a region's first byte: a multiple of 2 MiB or 1 GiB when the region is as large as that, so that a table can
    /// use large leaves.
    /// </summary>
    /// <exception cref="DmaBufIoException">No physical addresses are left (<c>ENOMEM</c>).</exception>
    public ulong BaseOf(MemoryRegion region)
    {
        if (_bases.TryGetValue(region, out object? known))
            return (ulong)known;
        lock (_gate)
        {
            if (_bases.TryGetValue(region, out known))
                return (ulong)known;
            ulong length = (ulong)region.Length;
            ulong alignment = AlignmentFor(length);
            ulong physical = (_nextBase + alignment - 1) & ~(alignment - 1);
            if (physical >= _limit || length > _limit - physical)
            {
                throw new DmaBufIoException(
                    Errno.ENOMEM,
                    "Iommu",
                    region.Name,
                    $"no physical addresses below 0x{_limit:x} are left for the region",
                    "Widen AddressBits, or keep regions instead of allocating new ones",
                    range: $"0+{length}");
            }

            _nextBase = physical + length + PageTable.PageSize;
            _bases.Add(region, physical);
            Append(new Entry(physical, physical + length, new WeakReference<MemoryRegion>(region)));
            return physical;
        }
    }

    /// <summary>The region that a physical address belongs to; false when it belongs to none, or to one that was collected.</summary>
    public bool TryFind(ulong physical, out MemoryRegion? region, out long offset)
    {
        Table table = Volatile.Read(ref _table);
        int low = 0;
        int high = Volatile.Read(ref table.Count) - 1;
        while (low <= high)
        {
            int middle = (low + high) >>> 1;
            ref readonly Entry entry = ref table.Entries[middle];
            if (physical < entry.Start)
            {
                high = middle - 1;
            }
            else if (physical >= entry.End)
            {
                low = middle + 1;
            }
            else
            {
                offset = (long)(physical - entry.Start);
                return entry.Region.TryGetTarget(out region);
            }
        }

        region = null;
        offset = 0;
        return false;
    }

    private ulong AlignmentFor(ulong length)
    {
        for (int level = PageTable.LargestLeafLevel; level > 1; level--)
        {
            // A narrow address space (a device without translation) is not to be spent on gaps.
            ulong size = 1UL << PageTable.ShiftOf(level);
            if (length >= size && size <= _limit >> 10)
                return size;
        }

        return PageTable.PageSize;
    }

    private void Append(Entry entry)
    {
        Table table = _table;
        if (table.Count == table.Entries.Length)
        {
            Entry[] alive = Array.FindAll(table.Entries, e => e.Region.TryGetTarget(out _));
            table = new Table(Math.Max(64, alive.Length * 2)) { Count = alive.Length };
            alive.CopyTo(table.Entries, 0);
            Volatile.Write(ref _table, table);
        }

        table.Entries[table.Count] = entry;
        Volatile.Write(ref table.Count, table.Count + 1);
    }

    private readonly record struct Entry(ulong Start, ulong End, WeakReference<MemoryRegion> Region);

    private sealed class Table(int capacity)
    {
        public readonly Entry[] Entries = new Entry[capacity];
        public int Count;
    }
}
