using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Rings;

namespace DmaBufIo.Tests.Rings;

public sealed class OperationRuleTests
{
    private const long Size = Stage.BufferSize;

    [Fact]
    public void R3_an_operation_that_did_not_opt_in_answers_EOPNOTSUPP_and_moves_nothing()
    {
        using var stage = new Stage(register: false);
        var copying = new CopyingFile(stage.Device);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = copying });
        stage.Exporter.Region.Fill(0x5a);
        Assert.Equal(new RingCompletion(1, Errno.EOPNOTSUPP, 0), Read(stage, copying, 512, 0));
        Assert.True(stage.Ring.TryWriteFixed(copying, 0, 0, 512, 0, 2));
        Assert.Equal(new RingCompletion(2, Errno.EOPNOTSUPP, 0), Assert.Single(stage.Run()));
        Assert.False(stage.Exporter.Region.Span(0, 4096).ContainsAnyExcept((byte)0x5a));
        copying.Put();
    }

    [Fact]
    public void R3_an_empty_slot_and_one_outside_the_table_answer_EFAULT()
    {
        using var stage = new Stage();
        foreach (int slot in (int[])[1, 63, 64, -1, int.MaxValue, int.MinValue])
        {
            Assert.True(stage.Ring.TryReadFixed(stage.File, slot, 0, 512, 0, 1));
            Assert.True(stage.Ring.TryWriteFixedVector(stage.File, slot, new BufferRange[] { new(0, 512) }, 0, 2));
            Assert.Equal(
                [new RingCompletion(1, Errno.EFAULT, 0), new RingCompletion(2, Errno.EFAULT, 0)],
                stage.Run());
        }
    }

    [Fact]
    public void R3_another_open_of_the_same_device_is_EBADF_and_the_same_open_is_not()
    {
        using var stage = new Stage();
        var other = new BlockDeviceFile(stage.Device);
        stage.Ring.AddFile(other);
        Assert.Equal(Errno.EBADF, Read(stage, other, 512, 0).Status);
        BlockDeviceFile duplicate = stage.File;
        duplicate.Get();
        Assert.Equal(Errno.Ok, Read(stage, duplicate, 512, 0).Status);
        duplicate.Put();
        other.Put();
    }

    [Fact]
    public void R3_another_device_is_EBADF()
    {
        using var stage = new Stage();
        var other = new BlockDeviceFile(stage.AddDevice("puppet1"));
        stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = other });
        Assert.Equal(Errno.EBADF, Read(stage, other, 512, 0).Status);
        Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 0, 512, 0, 1));
        Assert.Equal(Errno.EBADF, Assert.Single(stage.Run()).Status);
        Assert.True(stage.Ring.TryReadFixed(other, 1, 0, 512, 0, 1));
        Assert.Equal(Errno.Ok, Assert.Single(stage.Run()).Status);
        other.Put();
    }

    [Fact]
    public void R3_a_range_error_on_a_wrong_file_is_the_range_error()
    {
        using var stage = new Stage();
        var other = new BlockDeviceFile(stage.Device);
        Assert.Equal(Errno.EFAULT, Read(stage, other, 512, Size).Status);
        Assert.True(stage.Ring.TryReadFixedVector(other, 0, new BufferRange[] { new(0, 512), new(Size, 512) }, 0, 1));
        Assert.Equal(Errno.EFAULT, Assert.Single(stage.Run()).Status);
        Assert.True(stage.Ring.TryReadFixedVector(other, 0, new BufferRange[] { new(0, 512) }, 0, 1));
        Assert.Equal(Errno.EBADF, Assert.Single(stage.Run()).Status);
        other.Put();
    }

    [Fact]
    public void R3_a_wrong_file_is_EBADF_before_direction_and_alignment_are_looked_at()
    {
        using var stage = new Stage(register: false);
        stage.Ring.RegisterBuffer(
            0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File, Direction = DmaDirection.ToDevice });
        var other = new BlockDeviceFile(stage.Device);
        Assert.Equal(Errno.EBADF, Read(stage, other, 511, 2).Status);
        Assert.Equal(Errno.EACCES, Read(stage, stage.File, 511, 2).Status);
        other.Put();
    }

    [Theory]
    [InlineData(DmaDirection.ToDevice)]
    [InlineData(DmaDirection.FromDevice)]
    public void R3_T1_the_direction_that_was_not_registered_is_EACCES(DmaDirection direction)
    {
        using var stage = new Stage(register: false);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File, Direction = direction });
        Assert.Equal(direction == DmaDirection.FromDevice ? Errno.Ok : Errno.EACCES, stage.ReadOnce(512, 0, 0).Status);
        Assert.Equal(direction == DmaDirection.ToDevice ? Errno.Ok : Errno.EACCES, stage.WriteOnce(512, 0, 0).Status);
    }

    [Fact]
    public void R3_a_flush_needs_no_buffer_but_a_file_that_the_ring_knows()
    {
        using var stage = new Stage();
        var other = new BlockDeviceFile(stage.Device);
        Assert.True(stage.Ring.TryFlush(stage.File, 1));
        Assert.True(stage.Ring.TryFlush(other, 2));
        RingCompletion[] completions = stage.Run();
        Assert.Equal(Errno.Ok, Assert.Single(completions, static c => c.UserData == 1).Status);
        Assert.Equal(Errno.EBADF, Assert.Single(completions, static c => c.UserData == 2).Status);
        stage.Ring.AddFile(other);
        Assert.True(stage.Ring.TryFlush(other, 3));
        Assert.Equal(new RingCompletion(3, Errno.Ok, 0), Assert.Single(stage.Run()));
        other.Put();
    }

    private static RingCompletion Read(Stage stage, IoFile file, long length, long offset)
    {
        Assert.True(stage.Ring.TryReadFixed(file, 0, offset, length, 0, 1));
        return Assert.Single(stage.Run());
    }
}
