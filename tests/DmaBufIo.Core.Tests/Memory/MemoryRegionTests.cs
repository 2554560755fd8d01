using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Native;
using DmaBufIo.Tests.Rings;

namespace DmaBufIo.Tests.Memory;

public sealed class MemoryRegionTests
{
    private static readonly int s_page = MemoryRegion.PageSize;

    [Theory]
    [InlineData(1, 1)]
    [InlineData(4096, 1)]
    [InlineData(4097, 2)]
    public void A_region_is_whole_pages_and_zeroed(long length, int pages)
    {
        using MemoryRegion region = MemoryRegion.Allocate("r", length);
        Assert.Equal(pages * s_page, region.Length);
        Assert.False(region.Span(0, (int)region.Length).ContainsAnyExcept((byte)0));
        Assert.False(region.IsDead);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    [InlineData(long.MinValue)]
    [InlineData(long.MaxValue)]
    public void A_length_that_is_not_positive_or_cannot_be_rounded_is_EINVAL(long length) =>
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => MemoryRegion.Allocate("r", length)));

    [Theory]
    [InlineData(-1, 1)]
    [InlineData(0, -1)]
    [InlineData(0, int.MinValue)]
    [InlineData(8192, 1)]
    [InlineData(8191, 2)]
    [InlineData(long.MaxValue, 1)]
    public void A_range_that_leaves_the_region_is_EFAULT(long offset, int length)
    {
        using MemoryRegion small = MemoryRegion.Allocate("small", 8192);
        Assert.Equal(Errno.EFAULT, StageVerbs.Refusal(() => small.Span(offset, length)));
    }

    [Fact]
    public void R7_a_negative_length_is_EFAULT_also_in_a_region_of_more_than_four_GiB()
    {
        using MemoryRegion large = MemoryRegion.Allocate("large", 5L << 30);
        Assert.Equal(Errno.EFAULT, StageVerbs.Refusal(() => large.Span(0, -1)));
        large.Span((5L << 30) - 1, 1)[0] = 7;
        Assert.Equal(7, large.Span((5L << 30) - 8, 8)[7]);
        Assert.Equal(0, large.Span((1L << 30) - 1, 1)[0]);
    }

    [Fact]
    public void Every_region_has_a_number_of_its_own_and_its_end_is_not_reused_by_another()
    {
        using MemoryRegion first = MemoryRegion.Allocate("same", 4096);
        using MemoryRegion second = MemoryRegion.Allocate("same", 4096);
        Assert.NotEqual(first.Id, second.Id);
    }

    [Fact]
    public void A_disposed_region_gives_out_no_memory_and_disposing_twice_is_allowed()
    {
        MemoryRegion region = MemoryRegion.Allocate("r", 4096);
        region.Dispose();
        region.Dispose();
        Assert.Throws<ObjectDisposedException>(() => region.Span(0, 1));
        Assert.Throws<ObjectDisposedException>(() => region.Fill(1));
        Assert.True(region.File.IsClosed);
    }

    [Fact]
    public void Copying_is_between_regions_of_one_length()
    {
        using MemoryRegion one = MemoryRegion.Allocate("one", 4096);
        using MemoryRegion same = MemoryRegion.Allocate("same", 4096);
        using MemoryRegion two = MemoryRegion.Allocate("two", 8192);
        one.Fill(0x11);
        same.CopyFrom(one);
        Assert.False(same.Span(0, 4096).ContainsAnyExcept((byte)0x11));
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => two.CopyFrom(one)));
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => one.CopyFrom(two)));
    }

    [Fact]
    public void F7_a_place_that_was_left_is_marked_and_stays_so()
    {
        using MemoryRegion region = MemoryRegion.Allocate("r", 4096);
        region.MarkDead();
        Assert.True(region.IsDead);
        region.Span(0, 1)[0] = 1; // still mapped: its owner poisons it
    }

    [Fact]
    public void A_memory_file_that_is_not_sealed_against_shrinking_is_refused_and_its_handle_closed()
    {
        MemfdHandle file = MemfdHandle.Create("unsealed", 4096);
        Assert.False(file.IsSealedAgainstShrinking);
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => MemoryRegion.FromFile("r", file, 4096)));
        Assert.True(file.IsClosed);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-4096)]
    [InlineData(100)]
    [InlineData(4097)]
    public void A_memory_file_is_mapped_in_whole_pages(long length)
    {
        MemfdHandle file = Sealed(8192);
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => MemoryRegion.FromFile("r", file, length)));
        Assert.True(file.IsClosed);
    }

    [Fact]
    public void A_memory_file_that_is_shorter_than_the_region_is_refused_because_touching_its_end_would_end_the_process()
    {
        MemfdHandle file = Sealed(4096);
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => MemoryRegion.FromFile("r", file, 8192)));
        Assert.True(file.IsClosed);
    }

    [Fact]
    public void Two_mappings_of_one_memory_file_show_the_same_bytes()
    {
        MemfdHandle file = Sealed(8192);
        using MemoryRegion second = MemoryRegion.FromFile("b", MemfdHandle.Duplicate(file), 8192);
        using MemoryRegion first = MemoryRegion.FromFile("a", file, 8192);
        first.Span(4096, 4).Fill(9);
        Assert.Equal([9, 9, 9, 9], second.Span(4096, 4).ToArray());
    }

    private static MemfdHandle Sealed(long length)
    {
        MemfdHandle file = MemfdHandle.Create("sealed", length);
        file.SealAgainstShrinking();
        Assert.True(file.IsSealedAgainstShrinking);
        return file;
    }
}
