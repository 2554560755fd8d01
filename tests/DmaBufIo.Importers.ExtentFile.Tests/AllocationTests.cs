using DmaBufIo.Files;
using FsCheck;
using FsCheck.Fluent;

namespace DmaBufIo.Importers.ExtentFile.Tests;

public sealed class AllocationTests
{
    [Fact]
    public void Files_that_come_and_go_never_overlap_and_find_room_as_long_as_there_is_enough()
    {
        Gen<(int Verb, int Units)[]> steps = Gen.Zip(Gen.Choose(0, 9), Gen.Choose(1, 40)).Select(static t => (t.Item1, t.Item2)).ArrayOf();
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(500).WithEndSize(60), Prop.ForAll(Gen.Zip(Gen.Choose(1, 4), steps).ToArbitrary(), static t => Walk(t.Item1, t.Item2)));
    }

    private static void Walk(int devices, (int Verb, int Units)[] steps)
    {
        long[] capacities = [.. Enumerable.Range(0, devices).Select(static d => ExtentMap.HeaderSize + ((20 + (d * 13)) * ExtentMap.Unit) + (d * 512))];
        long room = capacities.Sum(static c => (c & -ExtentMap.Unit) - ExtentMap.HeaderSize);
        var files = new List<ExtentEntry>();
        foreach ((int verb, int units) in steps)
        {
            if (verb < 3 && files.Count != 0)
            {
                files.RemoveAt(units % files.Count);
                continue;
            }

            long size = units * ExtentMap.Unit;
            long used = files.Sum(static f => f.Extents.Sum(static e => e.Length));
            List<FileExtent>? found = Allocation.TryFind(size, capacities, files);
            Assert.Equal(used + size <= room, found is not null);
            if (found is null)
                continue;
            Assert.Equal(size, found.Sum(static e => e.Length));
            files.Add(new ExtentEntry($"f{files.Count}", size, found));
            foreach (IGrouping<int, FileExtent> device in files.SelectMany(static f => f.Extents).GroupBy(static e => e.Device))
            {
                long end = ExtentMap.HeaderSize;
                foreach (FileExtent extent in device.OrderBy(static e => e.Start))
                {
                    Assert.True(extent.Start >= end && extent.Length > 0 && (extent.Start | extent.Length) % ExtentMap.Unit == 0, $"{extent} overlaps what ends at {end}");
                    end = extent.Start + extent.Length;
                }

                Assert.True(end <= capacities[device.Key]);
            }
        }
    }

    [Fact]
    public void A_file_on_several_devices_is_spread_evenly()
    {
        List<FileExtent> found = Allocation.TryFind(40 * ExtentMap.Unit, [1 << 20, 1 << 20, 1 << 20, 1 << 20], [])!;
        Assert.Equal([0, 1, 2, 3], found.Select(static e => e.Device));
        Assert.All(found, static e => Assert.Equal(10 * ExtentMap.Unit, e.Length));
    }
}
