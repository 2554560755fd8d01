using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Tests.Memory;

namespace DmaBufIo.Tests.DmaBufTests;

public sealed class ExporterTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void T12_a_mapping_of_several_ranges_that_fails_half_way_is_undone_whatever_the_address_space_throws(bool orderly)
    {
        Exception failure = orderly
            ? new DmaBufIoException(Errno.ENOMEM, "test", "space", "no addresses left", "none")
            : new InvalidOperationException("a plugin's mistake");
        using var exported = new ExportedBuffer(4 * 4096, ranges: 4);
        var space = new SmallSpace(room: 2, failure);
        var device = new DmaDevice("small", space);
        DmaAttachment attachment = exported.Buffer.Attach(device, null);
        using (ReservationGuard guard = exported.Buffer.Reservation.Hold())
        {
            Exception? thrown = null;
            try
            {
                attachment.Map(DmaDirection.Bidirectional, guard.Held);
            }
            catch (Exception e)
            {
                thrown = e;
            }

            Assert.Same(failure, thrown);
            Assert.Equal((2, 0), (space.Mapped, space.Live));

            // Nothing was left behind: the next attempt starts from nothing and ends with everything.
            space.Room = 4;
            SgTable table = attachment.Map(DmaDirection.Bidirectional, guard.Held);
            Assert.Equal((4, 4), (table.Ranges.Count, space.Live));
            attachment.Unmap(table, guard.Held);
        }

        Assert.Equal(0, space.Live);
        exported.Buffer.Detach(attachment, null);
    }

    /// <summary>Has room for so many mappings and throws at the next.</summary>
    private sealed class SmallSpace(int room, Exception failure) : DmaAddressSpace
    {
        private readonly HashSet<DeviceRange> _live = [];

        internal int Room { get; set; } = room;

        internal int Live => _live.Count;

        internal int Mapped { get; private set; }

        public override string Name => "small";

        public override int Granularity => 4096;

        public override DeviceRange Map(in MemoryRange memory, DmaDirection direction, string purpose, long generation = 0)
        {
            if (_live.Count == Room)
                throw failure;
            var range = new DeviceRange(this, (ulong)++Mapped << 12, memory, direction, purpose, generation);
            _live.Add(range);
            return range;
        }

        public override void Unmap(DeviceRange range) => Assert.True(_live.Remove(range));
    }
}
