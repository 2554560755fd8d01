using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Models.Tests.Exporters;

public sealed class MovingExporterTests
{
    private const int Size = 64 * 1024;
    private readonly NoTarget _target = new();

    [Fact]
    public void F7_a_move_copies_the_contents_poisons_the_old_place_and_marks_it_dead()
    {
        MovingExporter exporter = MovingExporter.Create("b", Size);
        using var iommu = new ModelIommu(new ModelIommuOptions());
        (DmaAttachment attachment, SgTable table) = Map(exporter, iommu);
        MemoryRegion old = exporter.Region;
        new Random(1).NextBytes(old.Span(0, Size));
        byte[] contents = old.Span(0, Size).ToArray();
        exporter.Move(TestContext.Current.CancellationToken);
        Assert.NotSame(old, exporter.Region);
        Assert.Equal(contents, exporter.Region.Span(0, Size).ToArray());
        Assert.True(old.IsDead);
        Assert.False(exporter.Region.IsDead);
        Assert.Equal(-1, old.Span(0, Size).IndexOfAnyExcept(MovingExporter.Poison));
        Unmap(exporter, attachment, table);
        exporter.Buffer.Put();
    }

    [Fact]
    public void An_old_place_stays_allocated_until_nobody_maps_it()
    {
        MovingExporter exporter = MovingExporter.Create("b", Size);
        using var iommu = new ModelIommu(new ModelIommuOptions());
        (DmaAttachment attachment, SgTable table) = Map(exporter, iommu);
        MemoryRegion old = exporter.Region;
        exporter.Move(TestContext.Current.CancellationToken);
        Assert.Equal(1, exporter.OldPlaces);
        Assert.Equal(MovingExporter.Poison, old.Span(0, 1)[0]);
        Unmap(exporter, attachment, table);
        Assert.Equal(0, exporter.OldPlaces);
        Assert.Throws<ObjectDisposedException>(() => old.Span(0, 1)[0]);
        exporter.Buffer.Put();
    }

    [Fact]
    public void A_place_that_nobody_maps_is_freed_at_once()
    {
        MovingExporter exporter = MovingExporter.Create("b", Size);
        MemoryRegion old = exporter.Region;
        exporter.Move(TestContext.Current.CancellationToken);
        Assert.Throws<ObjectDisposedException>(() => old.Span(0, 1)[0]);
        Assert.Equal(1, exporter.Moves);
        exporter.Buffer.Put();
    }

    [Fact]
    public void A_pinned_buffer_stays_where_it_is()
    {
        MovingExporter exporter = MovingExporter.Create("b", Size);
        using var iommu = new ModelIommu(new ModelIommuOptions());
        var device = new DmaDevice("dev", iommu.AddDevice("dev").Space);
        DmaAttachment attachment = exporter.Buffer.Attach(device, target: null);
        MemoryRegion place = exporter.Region;
        Assert.Equal(Errno.EBUSY, Assert.Throws<DmaBufIoException>(() => exporter.Move(TestContext.Current.CancellationToken)).Errno);
        Assert.Same(place, exporter.Region);
        exporter.Buffer.Detach(attachment, null);
        exporter.Move(TestContext.Current.CancellationToken);
        Assert.NotSame(place, exporter.Region);
        exporter.Buffer.Put();
    }

    [Fact]
    public void The_old_map_is_never_handed_out_again_after_a_move()
    {
        MovingExporter exporter = MovingExporter.Create("b", Size);
        using var iommu = new ModelIommu(new ModelIommuOptions());
        (DmaAttachment attachment, SgTable table) = Map(exporter, iommu);
        exporter.Move(TestContext.Current.CancellationToken);
        SgTable second;
        using (ReservationGuard guard = exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            second = attachment.Map(DmaDirection.Bidirectional, guard.Held);
            Assert.NotSame(table, second);
            Assert.Same(second, attachment.Map(DmaDirection.Bidirectional, guard.Held));
            attachment.Unmap(second, guard.Held);
            attachment.Unmap(second, guard.Held);
        }

        Unmap(exporter, attachment, table);
        exporter.Buffer.Put();
        Assert.Equal(0, iommu.LiveMappings);
    }

    private (DmaAttachment Attachment, SgTable Table) Map(MovingExporter exporter, ModelIommu iommu)
    {
        var device = new DmaDevice("dev", iommu.AddDevice("dev").Space);
        DmaAttachment attachment = exporter.Buffer.Attach(device, _target);
        using ReservationGuard guard = exporter.Buffer.Reservation.Lock();
        return (attachment, attachment.Map(DmaDirection.Bidirectional, guard.Held));
    }

    private void Unmap(MovingExporter exporter, DmaAttachment attachment, SgTable table)
    {
        using (ReservationGuard guard = exporter.Buffer.Reservation.Lock())
            attachment.Unmap(table, guard.Held);
        exporter.Buffer.Detach(attachment, _target);
    }

    private sealed class NoTarget : IInvalidationTarget
    {
        public void Invalidate(InvalidationBatch batch, in HeldReservation held)
        {
        }
    }
}
