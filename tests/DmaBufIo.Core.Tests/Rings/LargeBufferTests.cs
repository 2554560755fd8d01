using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Rings;

namespace DmaBufIo.Tests.Rings;

/// <summary>Memory files are sparse: a buffer of 5 GiB costs the pages that are touched.</summary>
public sealed class LargeBufferTests
{
    private const long GiB = 1L << 30;
    private const long Size = 5 * GiB;

    [Theory]
    [InlineData(GiB)]
    [InlineData(GiB + 4096)]
    [InlineData((2 * GiB) - 512)]
    [InlineData(2 * GiB)]
    [InlineData((4 * GiB) - 2048)]
    [InlineData(4 * GiB)]
    [InlineData(Size - 4096)]
    public void R7_offsets_beyond_one_two_and_four_GiB_move_the_right_bytes_both_ways(long offset)
    {
        using var stage = new Stage(register: false);
        MovingExporter large = Register(stage);
        new Random(7).NextBytes(stage.Device.Store);
        Assert.Equal(new RingCompletion(1, Errno.Ok, 4096), stage.ReadOnce(4096, offset, 8192));
        Assert.True(large.Region.Span(offset, 4096).SequenceEqual(stage.Device.Store.Slice(8192, 4096)));

        // Where the bytes would have gone if the offset had lost its upper bits.
        if (offset > uint.MaxValue)
            Assert.False(large.Region.Span(offset & uint.MaxValue, 4096).ContainsAnyExcept((byte)0));
        large.Region.Span(offset, 4096).Reverse();
        Assert.Equal(new RingCompletion(1, Errno.Ok, 4096), stage.WriteOnce(4096, offset, 65536));
        Assert.True(large.Region.Span(offset, 4096).SequenceEqual(stage.Device.Store.Slice(65536, 4096)));
    }

    [Fact]
    public void R7_a_vector_reaches_all_of_it()
    {
        using var stage = new Stage(register: false);
        MovingExporter large = Register(stage);
        new Random(7).NextBytes(stage.Device.Store);
        Assert.Equal(
            new RingCompletion(1, Errno.Ok, 1536),
            stage.ReadVectorOnce(0, new BufferRange(Size - 512, 512), new BufferRange(0, 512), new BufferRange(4 * GiB, 512)));
        Assert.True(large.Region.Span(Size - 512, 512).SequenceEqual(stage.Device.Store[..512]));
        Assert.True(large.Region.Span(0, 512).SequenceEqual(stage.Device.Store.Slice(512, 512)));
        Assert.True(large.Region.Span(4 * GiB, 512).SequenceEqual(stage.Device.Store.Slice(1024, 512)));
    }

    [Theory]
    [InlineData(Size, 512)]
    [InlineData(Size - 512, 1024)]
    [InlineData(0, Size + 512)]
    public void R7_R2_its_end_is_where_it_is(long offset, long length)
    {
        using var stage = new Stage(register: false);
        Register(stage);
        Assert.Equal(Errno.EFAULT, stage.ReadOnce(length, offset, 0).Status);
    }

    [Theory]
    [InlineData(Size)]
    [InlineData((4 * GiB) + 512)]
    public void R7_B4_one_request_over_more_than_four_GiB_is_split_and_moves_every_byte_of_its_length(long length)
    {
        using var stage = new Stage(register: false);
        var large = MovingExporter.Create("large", Size);
        var device = new House.QuietBlockDevice(stage.Device.Device, 1L << 40, new QueueLimits(512) { MaxBytes = 1 << 30 });
        var file = new BlockDeviceFile(device);
        stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = large.Buffer, File = file });
        Assert.True(stage.Ring.TryWriteFixed(file, 1, Size - length, length, 4096, 1));
        Assert.Equal([new RingCompletion(1, Errno.Ok, length)], stage.Run());
        Assert.Equal(length, device.Bytes);
        Assert.Equal((length + GiB - 1) / GiB, device.Bios);
        stage.Ring.RemoveBuffer(1).WaitReleased(TestContext.Current.CancellationToken);
        large.Buffer.Put();
        file.Put();
    }

    private static MovingExporter Register(Stage stage)
    {
        var large = MovingExporter.Create("large", Size);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = large.Buffer, File = stage.File });
        large.Buffer.Put();
        return large;
    }
}
