using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;

namespace DmaBufIo.Tests.DmaBufTests;

/// <summary>The end of a buffer.</summary>
public sealed class BufferEndTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_buffer_is_freed_when_its_exporter_has_let_go_of_it_and_not_before(bool fails)
    {
        bool freedInRelease = true;
        DmaBuf? buffer = null;
        buffer = new DmaBuf("b0", 4096, new Ending(() =>
        {
            freedInRelease = buffer!.IsFreed;
            if (fails)
                throw new InvalidOperationException("the exporter cannot free it");
        }));
        Assert.False(buffer.IsFreed);
        if (fails)
            Assert.Throws<InvalidOperationException>(buffer.Put);
        else
            buffer.Put();
        Assert.False(freedInRelease);
        Assert.True(buffer.IsFreed);
    }

    private sealed class Ending(Action release) : DmaBufExporter
    {
        public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held) => throw new NotSupportedException("Nobody maps it.");

        public override void Unmap(SgTable table, in HeldReservation held) => throw new NotSupportedException("Nobody has mapped it.");

        public override BufferBacking Describe() => new(BackingKind.DeviceMemory, [], CanMove: false);

        public override void Release() => release();
    }
}
