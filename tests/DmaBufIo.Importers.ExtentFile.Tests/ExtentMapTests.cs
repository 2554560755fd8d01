using DmaBufIo.Errors;
using DmaBufIo.Files;

namespace DmaBufIo.Importers.ExtentFile.Tests;

public sealed class ExtentMapTests
{
    private static readonly ExtentMap s_map = new(
        Guid.NewGuid(), 7, 2, [new ExtentEntry("data", 12345, [new FileExtent(0, 65536, 8192), new FileExtent(1, 65536, 8192)]), new ExtentEntry("größer", 0, [])]);

    [Fact]
    public void What_is_written_is_read()
    {
        byte[] block = new byte[ExtentMap.Size];
        s_map.Write(block, 1);
        ExtentMap read = ExtentMap.Read(block, out int device)!;
        Assert.Equal((s_map.Volume, s_map.Number, s_map.Devices, 1), (read.Volume, read.Number, read.Devices, device));
        Assert.Equal(s_map.Files.Select(static f => (f.Name, f.Size)), read.Files.Select(static f => (f.Name, f.Size)));
        Assert.Equal(s_map.Files.SelectMany(static f => f.Extents), read.Files.SelectMany(static f => f.Extents));
    }

    [Fact]
    public void A_map_with_any_bit_wrong_or_any_sector_of_another_is_none()
    {
        byte[] block = new byte[ExtentMap.Size];
        s_map.Write(block, 0);
        byte[] other = new byte[ExtentMap.Size];
        (s_map with { Number = 8, Files = [.. Enumerable.Range(0, 40).Select(static i => new ExtentEntry($"other {i}", 1, [new FileExtent(0, 131072, 4096)]))] }).Write(other, 0);
        var random = new Random(1);
        for (int i = 0; i < 2000; i++)
        {
            byte[] broken = (byte[])block.Clone();
            broken[random.Next(broken.Length)] ^= (byte)(1 << random.Next(8));
            Assert.Null(ExtentMap.Read(broken, out _));
        }

        for (int sectors = 1; sectors < 3; sectors++)
        {
            byte[] torn = (byte[])block.Clone();
            other.AsSpan(0, sectors * 512).CopyTo(torn);
            Assert.Null(ExtentMap.Read(torn, out _));
        }

        Assert.Null(ExtentMap.Read(new byte[ExtentMap.Size], out _));
    }

    [Fact]
    public void A_map_that_is_full_says_so()
    {
        ExtentMap full = s_map with { Files = [.. Enumerable.Range(0, 1000).Select(static i => new ExtentEntry($"file {i}", 1, [new FileExtent(0, 65536, 4096)]))] };
        Assert.Equal(Errno.ENOSPC, Assert.Throws<DmaBufIoException>(() => full.Write(new byte[ExtentMap.Size], 0)).Errno);
    }
}
