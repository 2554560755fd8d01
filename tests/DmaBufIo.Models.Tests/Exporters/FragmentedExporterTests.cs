using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Models.Tests.Exporters;

public sealed class FragmentedExporterTests
{
    private const int Fragments = 20;

    [Fact]
    public void A_table_of_many_ranges_is_unmapped_under_one_acknowledgement()
    {
        using var iommu = new ModelIommu();
        var exporter = new FragmentedExporter(Fragments);
        var device = new DmaDevice("dev", iommu.AddDevice("dev").Space);
        DmaAttachment attachment = exporter.Buffer.Attach(device, target: null);
        using (ReservationGuard guard = exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            SgTable table = attachment.Map(DmaDirection.Bidirectional, guard.Held);
            Assert.Equal(exporter.Memory, table.Ranges.Select(range => range.Memory));
            attachment.Unmap(table, guard.Held);
        }

        IommuCounters counters = iommu.CountersOf("dev");
        Assert.Equal((Fragments, Fragments), (counters.Maps, counters.Unmaps));
        Assert.Equal((Fragments, 1), (counters.AcknowledgedInvalidations, counters.InvalidationWaits));
        exporter.Buffer.Detach(attachment, null);
        exporter.Buffer.Put();
    }

    [Fact]
    public void T12_a_table_that_cannot_be_mapped_whole_leaves_nothing_mapped()
    {
        using var iommu = new ModelIommu(new ModelIommuOptions { AddressBits = 22 });
        var exporter = new FragmentedExporter(1024);
        var device = new DmaDevice("dev", iommu.AddDevice("dev").Space);
        DmaAttachment attachment = exporter.Buffer.Attach(device, target: null);
        using (ReservationGuard guard = exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            Errno errno = Errno.Ok;
            try
            {
                attachment.Map(DmaDirection.Bidirectional, guard.Held);
            }
            catch (DmaBufIoException error)
            {
                errno = error.Errno;
            }

            Assert.Equal(Errno.ENOMEM, errno);
        }

        Assert.Equal((1023, 0), (iommu.Counters.Unmaps, iommu.LiveMappings));
        exporter.Buffer.Detach(attachment, null);
        exporter.Buffer.Put();
    }

    [Fact]
    public void A_space_that_does_not_know_batches_unmaps_one_after_another()
    {
        var space = new PlainSpace();
        using MemoryRegion region = MemoryRegion.Allocate("memory", 4096);
        var memory = new MemoryRange(region, 0, 4096);
        DeviceRange[] ranges = [.. Enumerable.Range(0, 3).Select(i => space.Map(memory, DmaDirection.ToDevice, $"{i}"))];
        space.Unmap(ranges);
        Assert.Equal(ranges, space.Unmapped);
    }

    private sealed class FragmentedExporter : DmaBufExporter
    {
        private readonly MemoryRegion _region;

        internal FragmentedExporter(int fragments)
        {
            // Every second page, so that no two are neighbours.
            _region = MemoryRegion.Allocate("fragments", fragments * 2 * 4096L);
            Memory = [.. Enumerable.Range(0, fragments).Select(i => new MemoryRange(_region, i * 2 * 4096L, 4096))];
            Buffer = new DmaBuf("fragments", fragments * 4096L, this);
        }

        internal DmaBuf Buffer { get; }

        internal MemoryRange[] Memory { get; }

        public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held) =>
            MapMemory(attachment, direction, Memory);

        public override void Unmap(SgTable table, in HeldReservation held) => UnmapMemory(table);

        public override BufferBacking Describe() => new(BackingKind.HostMemory, Memory, CanMove: false);

        public override void Release() => _region.Dispose();
    }

    private sealed class PlainSpace : DmaAddressSpace
    {
        public List<DeviceRange> Unmapped { get; } = [];

        public override string Name => "plain";

        public override int Granularity => 4096;

        public override DeviceRange Map(in MemoryRange memory, DmaDirection direction, string purpose, long generation = 0) =>
            new(this, 0, memory, direction, purpose, generation);

        public override void Unmap(DeviceRange range) => Unmapped.Add(range);
    }
}
