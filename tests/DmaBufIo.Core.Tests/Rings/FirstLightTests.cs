using DmaBufIo.Errors;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

public sealed class FirstLightTests
{
    [Fact]
    public void A_read_moves_the_devices_bytes_into_the_buffer()
    {
        using var stage = new Stage();
        Random.Shared.NextBytes(stage.Device.Store);
        stage.Read(65536, 4096, 8192);
        RingCompletion completion = Assert.Single(stage.Run());
        Assert.Equal(new RingCompletion(1, Errno.Ok, 65536), completion);
        Assert.True(stage.Exporter.Region.Span(4096, 65536).SequenceEqual(stage.Device.Store.Slice(8192, 65536)));
    }

    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void Moving_the_buffer_between_requests_loses_nothing(InvalidationDesign design)
    {
        using var stage = new Stage(new TokenOptions { Design = design });
        Random.Shared.NextBytes(stage.Device.Store);
        for (int i = 0; i < 20; i++)
        {
            stage.Read(4096, i * 4096, i * 4096);
            Assert.Equal(Errno.Ok, Assert.Single(stage.Run()).Status);
            stage.Exporter.Move(TestContext.Current.CancellationToken);
        }

        Assert.True(stage.Exporter.Region.Span(0, 20 * 4096).SequenceEqual(stage.Device.Store[..(20 * 4096)]));
        Assert.Equal(20, stage.Token.MapsMade);
    }

    [Fact]
    public void T14_the_submitting_thread_itself_may_move_the_buffer_while_its_completions_are_not_reaped()
    {
        using var stage = new Stage();
        for (int i = 0; i < 8; i++)
            stage.Read(4096, i * 4096, i * 4096, (ulong)i);
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        DmaBufs.InvalidationReport report = stage.Exporter.Move(TestContext.Current.CancellationToken);
        Assert.Equal(new DmaBufs.InvalidationReport(1, 8), report);
        Assert.All(stage.Reap(8), static c => Assert.Equal(Errno.Ok, c.Status));
    }
}
