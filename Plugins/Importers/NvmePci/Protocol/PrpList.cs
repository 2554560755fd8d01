namespace DmaBufIo.Importers.NvmePci.Protocol;

/// <summary>The two PRP entries of a command.</summary>
/// <param name="First">PRP1: the first byte of the transfer (P3).</param>
/// <param name="Second">PRP2: 0 (P4), the second page (P5), or a list (P6).</param>
public readonly record struct PrpEntries(ulong First, ulong Second);

/// <summary>Builds PRP entries and lists from the page addresses of a map (P1 to P11, N2). Pure: no state, no allocation.</summary>
/// <remarks>The cost depends on the pages of the request, not on where in the buffer it lies (N4).</remarks>
public static class PrpList
{
    private const int EntrySize = sizeof(ulong);

    /// <summary>Entries that the list of a transfer can need, whatever its offset into the first page.</summary>
    /// <param name="bytes">The length of the transfer.</param>
    /// <param name="pageShift">The controller page as a power of two (P1).</param>
    public static int EntriesFor(long bytes, int pageShift)
    {
        // All pages but PRP1's. An offset makes the transfer touch one page more than its length alone tells (P6).
        return (int)((bytes + (1L << pageShift) - 1) >> pageShift);
    }

    /// <summary>
    /// Bytes of list memory for that many entries such that a list at any multiple of it needs no more: a power of two below a page, so
    /// that
    /// lists share pages and none crosses one (P7); else whole pages, each of which but the last gives its last slot to the next (P8).
    /// </summary>
    /// <param name="entries">Data entries, 1 or more.</param>
    /// <param name="pageShift">The controller page as a power of two.</param>
    public static int MemoryFor(int entries, int pageShift)
    {
        int slots = 1 << pageShift >> 3;
        if (entries <= slots)
            return (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)entries) * EntrySize;
        int pages = (entries - 1 + slots - 2) / (slots - 1);
        return pages << pageShift;
    }

    /// <summary>Builds the entries of one transfer.</summary>
    /// <param name="pages">The device address of every controller page of the buffer, each page aligned.</param>
    /// <param name="pageShift">The controller page as a power of two (P1).</param>
    /// <param name="offset">First byte in the buffer, dword aligned (P2, P3).</param>
    /// <param name="length">Bytes, 1 or more; within the pages.</param>
    /// <param name="list">Memory for a list, contiguous in device addresses; large enough by <see cref="MemoryFor"/>.</param>
    /// <param name="listAddress">Its device address, qword aligned.</param>
    /// <returns>PRP1 and PRP2. Entries are written in host byte order, which is the device's on the hosts that the driver
    /// accepts.</returns>
    public static PrpEntries Build(ReadOnlySpan<ulong> pages, int pageShift, long offset, int length, Span<ulong> list, ulong listAddress)
    {
        int pageSize = 1 << pageShift;
        int first = (int)(offset >> pageShift);
        int within = (int)offset & (pageSize - 1);
        ulong prp1 = pages[first] + (uint)within;
        int remaining = length - (pageSize - within);
        if (remaining <= 0)
            return new PrpEntries(prp1, 0);
        if (remaining <= pageSize)
            return new PrpEntries(prp1, pages[first + 1]);
        int entries = (int)(((long)remaining + pageSize - 1) >> pageShift);
        WriteList(pages.Slice(first + 1, entries), pageSize, list, listAddress);
        return new PrpEntries(prp1, listAddress);
    }

    /// <summary>Builds the entries of one transfer in memory that is contiguous in device addresses: every page follows from the first.</summary>
    /// <param name="address">The device address of the first byte, dword aligned (P2, P3).</param>
    /// <param name="pageShift">The controller page as a power of two (P1).</param>
    /// <param name="length">Bytes, 1 or more.</param>
    /// <param name="list">Memory for a list, contiguous in device addresses; large enough by <see cref="MemoryFor"/>.</param>
    /// <param name="listAddress">Its device address, qword aligned.</param>
    /// <returns>PRP1 and PRP2.</returns>
    public static PrpEntries BuildContiguous(ulong address, int pageShift, int length, Span<ulong> list, ulong listAddress)
    {
        int pageSize = 1 << pageShift;
        int within = (int)(address & (uint)(pageSize - 1));
        int remaining = length - (pageSize - within);
        if (remaining <= 0)
            return new PrpEntries(address, 0);
        ulong second = address - (uint)within + (uint)pageSize;
        if (remaining <= pageSize)
            return new PrpEntries(address, second);
        WriteRun(second, (int)(((long)remaining + pageSize - 1) >> pageShift), pageSize, list, listAddress);
        return new PrpEntries(address, listAddress);
    }

    private static void WriteRun(ulong page, int entries, int pageSize, Span<ulong> list, ulong address)
    {
        // As WriteList (P7, P8), the addresses counted up.
        int slots = (pageSize - (int)(address & (uint)(pageSize - 1))) / EntrySize;
        while (true)
        {
            int data = entries > slots ? slots - 1 : entries;
            for (int i = 0; i < data; i++, page += (uint)pageSize)
                list[i] = page;
            entries -= data;
            if (entries == 0)
                return;
            address += (uint)(slots * EntrySize);
            list[slots - 1] = address;
            list = list[slots..];
            slots = pageSize / EntrySize;
        }
    }

    private static void WriteList(ReadOnlySpan<ulong> entries, int pageSize, Span<ulong> list, ulong address)
    {
        // The first page of a list may begin inside a page; it ends with that page (P7).
        int slots = (pageSize - (int)(address & (uint)(pageSize - 1))) / EntrySize;
        while (entries.Length > slots)
        {
            // P8: more entries than slots are left, so the last slot leads on. When they fit exactly, it is data.
            entries[..(slots - 1)].CopyTo(list);
            address += (uint)(slots * EntrySize);
            list[slots - 1] = address;
            entries = entries[(slots - 1)..];
            list = list[slots..];
            slots = pageSize / EntrySize;
        }

        entries.CopyTo(list);
    }
}
