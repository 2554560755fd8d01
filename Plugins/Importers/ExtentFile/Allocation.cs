using DmaBufIo.Files;

namespace DmaBufIo.Importers.ExtentFile;

/// <summary>Finds room for a file: spread evenly over the devices, in as few extents as there are gaps for.</summary>
internal static class Allocation
{
    /// <summary>Allocates.</summary>
    /// <param name="size">Bytes, a multiple of the unit.</param>
    /// <param name="capacities">Bytes of each device.</param>
    /// <param name="files">What has its place already.</param>
    /// <returns>The extents in file order; null when there is not enough room.</returns>
    internal static List<FileExtent>? TryFind(long size, IReadOnlyList<long> capacities, IReadOnlyList<ExtentEntry> files)
    {
        List<FileExtent>[] gaps = [.. Enumerable.Range(0, capacities.Count).Select(d => Gaps(d, capacities[d], files))];
        var found = new List<FileExtent>();
        long left = size;
        long share = ((size / capacities.Count) + ExtentMap.Unit - 1) & -ExtentMap.Unit;

        // First each device's share, then whatever room there is.
        foreach (bool isRest in new[] { false, true })
        {
            for (int device = 0; device < gaps.Length; device++)
            {
                long wanted = isRest ? left : Math.Min(left, share);
                while (wanted > 0 && gaps[device].Count != 0)
                {
                    int largest = gaps[device].FindIndex(g => g.Length >= wanted);
                    if (largest < 0)
                        largest = gaps[device].IndexOf(gaps[device].MaxBy(static g => g.Length));
                    FileExtent gap = gaps[device][largest];
                    long length = Math.Min(gap.Length, wanted);
                    found.Add(gap with { Length = length });
                    if (length == gap.Length)
                        gaps[device].RemoveAt(largest);
                    else
                        gaps[device][largest] = new FileExtent(device, gap.Start + length, gap.Length - length);
                    wanted -= length;
                    left -= length;
                }
            }
        }

        return left == 0 ? found : null;
    }

    private static List<FileExtent> Gaps(int device, long capacity, IReadOnlyList<ExtentEntry> files)
    {
        var gaps = new List<FileExtent>();
        long at = ExtentMap.HeaderSize;
        foreach (FileExtent used in files.SelectMany(static f => f.Extents).Where(e => e.Device == device).OrderBy(static e => e.Start))
        {
            if (used.Start > at)
                gaps.Add(new FileExtent(device, at, used.Start - at));
            at = used.Start + used.Length;
        }

        long end = capacity & -ExtentMap.Unit;
        if (end > at)
            gaps.Add(new FileExtent(device, at, end - at));
        return gaps;
    }
}
