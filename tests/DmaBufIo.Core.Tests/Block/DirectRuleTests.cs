using System.Reflection;
using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Rings;
using DmaBufIo.Tests.Rings;

namespace DmaBufIo.Tests.Block;

public sealed class DirectRuleTests
{
    [Theory]
    [InlineData(OpenFlags.None)]
    [InlineData(OpenFlags.ReadOnly)]
    public void B5_a_file_opened_for_buffered_IO_refuses_the_token_with_EINVAL_and_keeps_nothing(OpenFlags flags)
    {
        using var stage = new Stage(register: false);
        var buffered = new BlockDeviceFile(stage.Device, flags);
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(
            () => stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = buffered }));
        Assert.Equal((Errno.EINVAL, "B5"), (refused.Errno, refused.Rule));
        Assert.Equal((1, 1, 0), (buffered.References, stage.Exporter.Buffer.References, stage.Device.LiveTokens));
        Assert.Null(stage.Ring.TokenAt(0));
    }

    [Fact]
    public void B5_the_check_is_made_again_at_every_request_after_the_flag_was_cleared()
    {
        using var stage = new Stage();
        Assert.Equal(Errno.Ok, stage.ReadOnce(4096, 0, 0).Status);
        stage.File.SetDirect(false);
        int submitted = 0;
        stage.Device.OnSubmit = _ => submitted++;
        Assert.Equal(new RingCompletion(1, Errno.EINVAL, 0), stage.ReadOnce(4096, 0, 0));
        Assert.Equal(new RingCompletion(1, Errno.EINVAL, 0), stage.WriteOnce(4096, 0, 0));
        Assert.Equal(
            new RingCompletion(1, Errno.EINVAL, 0),
            stage.ReadVectorOnce(0, new DmaBufIo.Iov.BufferRange(0, 512), new DmaBufIo.Iov.BufferRange(512, 512)));
        Assert.Equal(0, submitted);
        stage.File.SetDirect(true);
        Assert.Equal(new RingCompletion(1, Errno.Ok, 4096), stage.ReadOnce(4096, 0, 0));
    }

    [Fact]
    public void B5_a_refused_request_gives_its_map_reference_back()
    {
        using var stage = new Stage();
        stage.File.SetDirect(false);
        Assert.Equal(Errno.EINVAL, stage.ReadOnce(4096, 0, 0).Status);
        Assert.Equal(new DmaBufIo.DmaBufs.InvalidationReport(1, 0), stage.Move());
    }

    [Fact]
    public void B6_the_token_operation_belongs_to_the_block_device_and_not_to_its_queue()
    {
        Assert.NotNull(typeof(BlockDevice).GetMethod("CreateToken"));
        Assert.DoesNotContain(
            typeof(BlockQueue).GetMembers(BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.DeclaredOnly),
            static m => m.Name.Contains("Token", StringComparison.Ordinal) || m.Name.Contains("Map", StringComparison.Ordinal));
    }

    [Fact]
    public void B6_a_block_device_file_forwards_the_operation_to_its_device()
    {
        using var stage = new Stage(register: false);
        DmaBufIo.Tokens.DmaBufToken token = stage.File.OpenToken(stage.Exporter.Buffer, DmaBufIo.Dma.DmaDirection.Bidirectional);
        Assert.Equal(1, stage.Device.LiveTokens);
        Assert.Same(stage.File, token.Owner);
        token.Release();
        Assert.Equal(Errno.Ok, token.WaitReleased(TestContext.Current.CancellationToken));
        stage.Device.TakesTokens = false;
        Assert.Equal(
            Errno.EOPNOTSUPP,
            StageVerbs.Refusal(() => stage.File.OpenToken(stage.Exporter.Buffer, DmaBufIo.Dma.DmaDirection.Bidirectional)));
    }
}
