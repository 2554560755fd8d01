using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Iov;
using DmaBufIo.Rings;

namespace DmaBufIo.Tests.Rings;

public sealed class RangeRuleTests
{
    private const long Size = Stage.BufferSize;

    [Theory]
    [InlineData(0, Size + 512)]
    [InlineData(Size - 512, 1024)]
    [InlineData(Size, 512)]
    [InlineData(Size + 512, 512)]
    [InlineData(Size + 512, 0)]
    [InlineData(long.MaxValue & -512, 512)]
    public void R2_a_range_that_leaves_the_buffer_is_EFAULT(long offset, long length) => AssertBoth(Errno.EFAULT, length, offset, 0);

    [Theory]
    [InlineData(-512, 512)]
    [InlineData(-512, 1024)]
    [InlineData(long.MinValue, 512)]
    [InlineData(512, long.MaxValue & -512)]
    [InlineData(512, -512)]
    [InlineData(0, -1)]
    [InlineData(0, long.MinValue)]
    [InlineData(-512, -512)]
    public void R2_a_range_that_wraps_is_EFAULT(long offset, long length) => AssertBoth(Errno.EFAULT, length, offset, 0);

    [Theory]
    [InlineData(0, 0)]
    [InlineData(Size, 0)]
    [InlineData(2, 0)]
    public void R2_a_length_of_zero_transfers_zero_bytes_and_succeeds(long offset, long length)
    {
        using var stage = new Stage();
        int bios = 0;
        stage.Device.OnSubmit = _ => bios++;
        Assert.Equal(new RingCompletion(1, Errno.Ok, 0), stage.ReadOnce(length, offset, 0));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 0), stage.WriteOnce(length, offset, 0));
        Assert.Equal((0, 0L), (bios, stage.Token.MapsMade));
    }

    [Fact]
    public void R2_a_vector_without_bytes_transfers_zero_bytes_and_succeeds()
    {
        using var stage = new Stage();
        Assert.Equal(new RingCompletion(1, Errno.Ok, 0), stage.ReadVectorOnce(0));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 0), stage.ReadVectorOnce(0, new BufferRange(0, 0), new BufferRange(Size, 0)));
        Assert.Equal(0, stage.Token.MapsMade);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4097)]
    public void R2_an_offset_that_is_not_dword_aligned_is_EINVAL(long offset) => AssertBoth(Errno.EINVAL, 4096, offset, 0);

    [Fact]
    public void R2_an_offset_that_is_dword_aligned_and_no_more_moves_the_right_bytes()
    {
        using var stage = new Stage();
        new Random(2).NextBytes(stage.Device.Store);
        Assert.Equal(new RingCompletion(1, Errno.Ok, 1024), stage.ReadOnce(1024, 4100, 512));
        Assert.True(stage.Exporter.Region.Span(4100, 1024).SequenceEqual(stage.Device.Store.Slice(512, 1024)));
        Assert.False(stage.Exporter.Region.Span(0, 4100).ContainsAnyExcept((byte)0));
        Assert.False(stage.Exporter.Region.Span(5124, 8192).ContainsAnyExcept((byte)0));
    }

    [Theory]
    [InlineData(512, 1, 0)]
    [InlineData(512, 511, 0)]
    [InlineData(512, 513, 0)]
    [InlineData(512, 512, 1)]
    [InlineData(512, 512, 256)]
    [InlineData(4096, 512, 0)]
    [InlineData(4096, 4096, 512)]
    [InlineData(4096, 4608, 4096)]
    [InlineData(512, 512, -512)]
    public void R2_a_length_or_a_file_offset_that_is_no_multiple_of_the_LBA_is_EINVAL(int lba, long length, long fileOffset) =>
        AssertBoth(Errno.EINVAL, length, 0, fileOffset, lba);

    [Theory]
    [InlineData(512, Size, 512, 512, Errno.EFAULT)]
    [InlineData(0, 512, Size, 512, Errno.EFAULT)]
    [InlineData(0, 512, -512, 512, Errno.EFAULT)]
    [InlineData(0, 512, 512, -512, Errno.EFAULT)]
    [InlineData(0, 512, 512, Size, Errno.EFAULT)]
    [InlineData(0, 512, 514, 512, Errno.EINVAL)]
    [InlineData(0, 512, 512, 100, Errno.EINVAL)]
    [InlineData(0, 512, Size - 512, 512, Errno.Ok)]
    [InlineData(0, 512, Size, 0, Errno.Ok)]
    public void R2_each_range_of_a_vector_obeys_the_same_laws(
        long offset, long length, long secondOffset, long secondLength, Errno expected)
    {
        using var stage = new Stage();
        RingCompletion completion = stage.ReadVectorOnce(0, new BufferRange(offset, length), new BufferRange(secondOffset, secondLength));
        Assert.Equal((expected, expected == Errno.Ok ? length + secondLength : 0), (completion.Status, completion.Bytes));
    }

    [Fact]
    public void R2_the_range_error_comes_before_the_alignment_error()
    {
        AssertBoth(Errno.EFAULT, 511, Size - 1, 1);
        AssertBoth(Errno.EFAULT, Size + 1, 2, 1);
    }

    [Fact]
    public void R2_a_refused_request_holds_no_map_reference_and_moves_nothing()
    {
        using var stage = new Stage();
        stage.Exporter.Region.Fill(0x5a);
        Assert.Equal(Errno.Ok, stage.WriteOnce(4096, 0, 0).Status);
        foreach ((long length, long offset) in (ReadOnlySpan<(long, long)>)[(512, Size), (512, 2), (100, 0), (-1, 0)])
            Assert.NotEqual(Errno.Ok, stage.ReadOnce(length, offset, 0).Status);
        Assert.Equal(0, stage.Ring.InFlight);
        Assert.Equal(new DmaBufIo.DmaBufs.InvalidationReport(1, 0), stage.Move());
        Assert.False(stage.Exporter.Region.Span(0, (int)Size).ContainsAnyExcept((byte)0x5a));
    }

    private static void AssertBoth(Errno expected, long length, long bufferOffset, long fileOffset, int lba = 512)
    {
        using var stage = new Stage(limits: new QueueLimits(lba));
        int bios = 0;
        stage.Device.OnSubmit = _ => bios++;
        Assert.Equal(new RingCompletion(1, expected, 0), stage.ReadOnce(length, bufferOffset, fileOffset));
        Assert.Equal(new RingCompletion(1, expected, 0), stage.WriteOnce(length, bufferOffset, fileOffset));
        Assert.Equal(0, bios);
    }
}
