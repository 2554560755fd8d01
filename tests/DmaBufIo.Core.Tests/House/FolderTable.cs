namespace DmaBufIo.Tests.House;

/// <summary>One row of the table of Core's folders: folders that stand side by side, and what they may use.</summary>
internal sealed record FolderRow(string[] Folders, string Holds, string MayUse, string[] Uses);

/// <summary>
/// The table of Core's folders, the one place where it is kept; CONTRIBUTING.md shows the same. A folder may use those of its own row
/// as long as there is no cycle, and what the row names; "and below" is every row above it in the table.
/// </summary>
internal static class FolderTable
{
    internal static readonly FolderRow[] Rows = Build(
        ("Errors, Diagnostics",
            "errno names, exceptions with layer, object, range, rule and remedy; counters, tracing hooks, snapshot",
            "–"),
        ("Native", "P/Invoke, memfd, mmap, eventfd", "Errors"),
        ("Sync", "reservation lock (wound/wait), completion, wait queue, work queue, request gate, schedule points", "Errors, Diagnostics"),
        ("Io", "per-ring context: owner thread, gate slot, counters; the drain that reaps for others", "Sync and below"),
        ("Memory, Dma, Devices", "regions, pools; DMA address spaces; device identity, reset, removal", "Io and below"),
        ("DmaBufs", "buffer, attachment, reservation object, fence, exporter base", "Dma, Devices and below"),
        ("Tokens", "token, map, token driver; knows its file only as an owner interface", "DmaBufs and below"),
        ("Iov", "iterator", "Tokens and below"),
        ("Block", "bio, limits, split, block device and queue", "Iov and below"),
        ("Pci", "PCI function, BARs, interrupts", "Dma, Devices and below"),
        ("Files", "open file, file operations, block-device file", "Block and below"),
        ("Rings", "registered buffers, submission, completion", "Files and below"),
        ("Rdma", "RDMA device, memory region, queue pair, completion queue", "Files and below"),
        ("Plugins", "the entry contract of a plugin", "all of Core"));

    /// <summary>The table as CONTRIBUTING.md shows it.</summary>
    internal static IEnumerable<string> Markdown() =>
        Rows.Select(static r => $"| {string.Join(", ", r.Folders)} | {r.Holds} | {r.MayUse} |")
            .Prepend("|---|---|---|")
            .Prepend("| folder | holds | may use |");

    internal static FolderRow? RowOf(string folder) => Array.Find(Rows, r => r.Folders.Contains(folder));

    internal static bool Allows(string user, string used) =>
        RowOf(user) is { } row && (row.Folders.Contains(used) || row.Uses.Contains(used));

    private static FolderRow[] Build(params (string Folders, string Holds, string MayUse)[] rows)
    {
        string[][] folders = [.. rows.Select(static r => r.Folders.Split(", "))];
        return [.. rows.Select((r, i) => new FolderRow(folders[i], r.Holds, r.MayUse, Uses(folders, r.MayUse)))];
    }

    private static string[] Uses(string[][] folders, string mayUse)
    {
        if (mayUse == "–")
            return [];
        if (mayUse == "all of Core")
            return [.. folders.SelectMany(static f => f)];
        string[] named = mayUse.Replace(" and below", "", StringComparison.Ordinal).Split(", ");
        if (!mayUse.EndsWith(" and below", StringComparison.Ordinal))
            return named;
        int row = Array.FindIndex(folders, f => f.Contains(named[0]));
        return [.. folders.Take(row + 1).SelectMany(static f => f)];
    }
}
