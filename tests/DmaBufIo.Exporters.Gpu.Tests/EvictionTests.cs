using DmaBufIo.Devices;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Memory;

namespace DmaBufIo.Exporters.Gpu.Tests;

/// <summary>Who is evicted, when, and what becomes of the contents.</summary>
public sealed class EvictionTests
{
    private const long Half = 512 << 10;

    [Fact]
    public void A_new_buffer_holds_zeros_whatever_lay_there_before()
    {
        using var rig = new GpuRig();
        GpuBuffer first = rig.Buffer("first", Half, "vram=1M");
        rig.Factory.Fill(first.Buffer, 0, Half, 7).Fence.Wait(GpuRig.Token);
        GpuBuffer second = rig.Buffer("second", Half);
        GpuBuffer third = rig.Buffer("third", Half); // evicts the first and gets its memory
        Assert.Equal((false, true), (first.Place.IsVram, third.Place.IsVram));
        Assert.All(GpuRig.Contents(third), static b => Assert.Equal(0, b));
        GpuBuffer inSystem = rig.Buffer("system", Half, "placement=system");
        Assert.All(GpuRig.Contents(inSystem), static b => Assert.Equal(0, b));
        Assert.All(GpuRig.Contents(second), static b => Assert.Equal(0, b));
    }

    [Fact]
    public void The_least_recently_used_goes_first_and_comes_back_with_its_contents_when_it_is_used()
    {
        using var rig = new GpuRig();
        GpuBuffer a = rig.Buffer("a", Half, "vram=1M");
        GpuBuffer b = rig.Buffer("b", Half);
        rig.Factory.Fill(a.Buffer, 0, Half, 1).Fence.Wait(GpuRig.Token);
        rig.Factory.Fill(b.Buffer, 0, Half, 2).Fence.Wait(GpuRig.Token);
        rig.Factory.Hash(a.Buffer, 0, 4096).Fence.Wait(GpuRig.Token);
        GpuBuffer c = rig.Buffer("c", Half);
        Assert.Equal((true, false, true), (a.Place.IsVram, b.Place.IsVram, c.Place.IsVram));
        Assert.Equal((1L, 0L), (a.Gpu.Memory.Evictions, a.Gpu.Memory.Restores));
        Assert.All(GpuRig.Contents(b), static v => Assert.Equal(2, v));
        rig.Factory.Hash(b.Buffer, 0, 4096).Fence.Wait(GpuRig.Token);
        Assert.Equal((false, true, true), (a.Place.IsVram, b.Place.IsVram, c.Place.IsVram));
        Assert.Equal((2L, 1L), (a.Gpu.Memory.Evictions, a.Gpu.Memory.Restores));
        Assert.All(GpuRig.Contents(a), static v => Assert.Equal(1, v));
        Assert.All(GpuRig.Contents(b), static v => Assert.Equal(2, v));
    }

    [Fact]
    public void A_buffer_of_a_higher_priority_is_not_evicted_for_one_of_a_lower_and_goes_last_for_one_of_its_own()
    {
        using var rig = new GpuRig();
        GpuBuffer high = rig.Buffer("high", Half, "vram=1M,priority=2");
        GpuBuffer low = rig.Buffer("low", Half, "priority=1");
        GpuBuffer other = rig.Buffer("other", Half, "priority=1");
        Assert.Equal((true, false, true), (high.Place.IsVram, low.Place.IsVram, other.Place.IsVram));
        GpuBuffer mighty = rig.Buffer("mighty", 2 * Half, "priority=2");
        Assert.Equal((false, false, true), (high.Place.IsVram, other.Place.IsVram, mighty.Place.IsVram));
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => rig.Buffer("late", Half, "priority=1"));
        Assert.Equal(Errno.ENOMEM, refused.Errno);
        Assert.Contains("of a higher priority", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_pinned_buffer_stays_and_without_room_beside_it_the_answer_is_ENOMEM()
    {
        using var rig = new GpuRig();
        GpuBuffer pinned = rig.Buffer("pinned", Half, "vram=1M");
        var device = new DmaDevice("static", rig.Iommu.AddDevice("static").Space) { Location = DeviceLocation.Parse("hb0/rp1") };
        DmaAttachment attachment = pinned.Buffer.Attach(device, null);
        GpuBuffer other = rig.Buffer("other", Half);
        Assert.Equal(Errno.ENOMEM, Assert.Throws<DmaBufIoException>(() => rig.Buffer("large", 2 * Half)).Errno);
        GpuBuffer next = rig.Buffer("next", Half);
        Assert.Equal((true, false, true), (pinned.Place.IsVram, other.Place.IsVram, next.Place.IsVram));
        Assert.Equal(Errno.EBUSY, Assert.Throws<DmaBufIoException>(() => rig.Factory.Move(pinned.Buffer, GpuRig.Token)).Errno);

        // Jobs work on it where it is.
        rig.Factory.Fill(pinned.Buffer, 0, Half, 3).Fence.Wait(GpuRig.Token);
        Assert.All(GpuRig.Contents(pinned), static v => Assert.Equal(3, v));
        pinned.Buffer.Detach(attachment, null);
        rig.Buffer("large", 2 * Half);
        Assert.False(pinned.Place.IsVram);
        Assert.Equal(Errno.ENOMEM, Assert.Throws<DmaBufIoException>(() => rig.Buffer("huge", 4 * Half)).Errno);
    }

    [Fact]
    public void A_job_whose_buffers_do_not_fit_together_is_refused_and_leaves_no_lock_held()
    {
        using var rig = new GpuRig();
        GpuBuffer a = rig.Buffer("a", 2 * Half, "vram=1M");
        GpuBuffer b = rig.Buffer("b", Half);
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => rig.Factory.Copy(a.Buffer, 0, b.Buffer, 0, 4096));
        Assert.Equal(Errno.ENOMEM, refused.Errno);
        Assert.False(a.Buffer.Reservation.IsLocked || b.Buffer.Reservation.IsLocked);
        rig.Factory.Fill(a.Buffer, 0, 4096, 1).Fence.Wait(GpuRig.Token);
        Assert.Equal(1, GpuRig.Contents(a)[0]);
    }

    [Fact]
    public void F7_a_place_that_was_left_is_poisoned_and_an_access_to_it_is_stale_until_it_is_unmapped()
    {
        using var iommu = new Models.Iommu.ModelIommu();
        var factory = new GpuExporterFactory();
        DmaBuf buffer = factory.Create(GpuRig.Expression("vram=1M"), "b", Half);
        (Dma.DmaAddressSpace space, Dma.DmaPort port) = iommu.AddDevice("stale");
        var device = new DmaDevice("stale", space) { Location = DeviceLocation.Parse("hb0/rp1") };
        var target = new Nobody();
        DmaAttachment attachment = buffer.Attach(device, target);
        SgTable table;
        using (ReservationGuard guard = buffer.Reservation.Lock(null, GpuRig.Token))
            table = attachment.Map(Dma.DmaDirection.Bidirectional, guard.Held);
        byte[] data = new byte[16];
        data.AsSpan().Fill(5);
        Assert.Equal(Errno.Ok, port.Write(table.Ranges[0].Address, data));
        factory.Move(buffer, GpuRig.Token);
        buffer.Reservation.Wait(FenceUsage.Bookkeep, GpuRig.Token);
        Assert.Equal(0, iommu.StaleAccesses);
        port.Read(table.Ranges[0].Address, data);
        Assert.Equal(1, iommu.StaleAccesses);
        Assert.Equal(5, GpuRig.Contents((GpuBuffer)buffer.Exporter)[0]);
        Assert.True(table.Ranges[0].Memory.Region.Span(0, 4096).IndexOfAnyExcept(Place.Poison) < 0);
        using (ReservationGuard guard = buffer.Reservation.Lock(null, GpuRig.Token))
            attachment.Unmap(table, guard.Held);
        buffer.Detach(attachment, target);
        Assert.Throws<ObjectDisposedException>(() => table.Ranges[0].Memory.Region.Span(0, 16).Length);
        buffer.Put();
    }

    private sealed class Nobody : IInvalidationTarget
    {
        public void Invalidate(InvalidationBatch batch, in HeldReservation held)
        {
            // As a driver that does not listen.
        }
    }
}
