using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Memory;
using DmaBufIo.Plugins;
using DmaBufIo.Sync;

namespace DmaBufIo.Exporters.Gpu.Tests;

/// <summary>Working sets larger than the GPU's memory.</summary>
public sealed class PressureTests
{
    [Fact]
    public void Buffers_of_all_users_hold_what_was_put_there_however_often_they_are_evicted()
    {
        using var rig = new GpuRig();
        GpuBuffer buffer = rig.Buffer("victim", 1 << 20, "vram=8M");
        rig.Factory.Fill(buffer.Buffer, 0, 1 << 20, 77).Fence.Wait(GpuRig.Token);
        using (IMemoryPressure pressure = rig.Factory.Press(buffer.Buffer))
        {
            GpuRig.Until(() => (pressure.Evictions > 1000 && pressure.Moves > 4) || pressure.Failure is not null);
            Assert.Null(pressure.Failure);
            Assert.Equal(3 * buffer.Gpu.Vram, pressure.WorkingSet);
            Assert.InRange(pressure.Restores, 1, pressure.Evictions);
        }

        Assert.All(GpuRig.Contents(buffer), static v => Assert.Equal(77, v));
        Assert.Null(buffer.Set);
    }

    [Fact]
    public void What_is_evicted_of_a_working_set_comes_back_by_itself_all_of_it_together()
    {
        using var rig = new GpuRig();
        GpuBuffer[] set = [.. Enumerable.Range(0, 3).Select(i => rig.Buffer($"set{i}", 256 << 10, "vram=1M"))];
        var working = new WorkingSet(set[0].Gpu, set);
        GpuBuffer other = rig.Buffer("other", 768 << 10); // evicts two of them; they evict it
        GpuRig.Until(() => !other.Place.IsVram && Array.TrueForAll(set, static b => b.Place.IsVram));
        working.End();
        Assert.All(set, static b => Assert.Null(b.Set));
        rig.Factory.Hash(other.Buffer, 0, 4096).Fence.Wait(GpuRig.Token);
        Assert.True(other.Place.IsVram);
        Assert.Contains(set, static b => !b.Place.IsVram);
    }

    [Fact]
    public void Two_whose_buffers_fill_the_memory_take_turns_and_neither_is_told_that_there_is_no_room()
    {
        using var rig = new GpuRig();
        GpuBuffer[] buffers = [rig.Buffer("a", 1 << 20, "vram=1M"), rig.Buffer("b", 1 << 20)];
        string? failure = null;
        Thread[] users = [.. buffers.Select(buffer => new Thread(() =>
        {
            try
            {
                for (int i = 0; i < 150; i++)
                    rig.Factory.Hash(buffer.Buffer, 0, 4096);
            }
            catch (DmaBufIoException e)
            {
                failure = e.Message;
            }
        }))];
        foreach (Thread user in users)
            user.Start();
        foreach (Thread user in users)
            user.Join();
        Assert.Null(failure);
    }

    [Fact]
    public void A_large_buffer_gets_the_room_that_was_made_for_it_before_small_ones_that_came_later()
    {
        using var rig = new GpuRig();
        GpuBuffer large = rig.Buffer("large", 1 << 20, "vram=1M");
        rig.Buffer("a", 512 << 10);
        rig.Buffer("b", 384 << 10); // leaves 128K
        large.Gpu.Copies.IsHeld = true;
        var job = new Thread(() => rig.Factory.Hash(large.Buffer, 0, 4096));
        job.Start();
        GpuRig.Until(static () => Waits("copy engine"));
        GpuBuffer? small = null;
        var later = new Thread(() => small = rig.Buffer("small", 64 << 10));
        later.Start();
        GpuRig.Until(() => Waits("turn for 65536") || !later.IsAlive);
        Assert.True(later.IsAlive);
        large.Gpu.Copies.IsHeld = false;
        job.Join();
        later.Join();
        Assert.True(small!.Place.IsVram);

        static bool Waits(string what) => Diagnostics.DmaBufIoDiagnostics.Snapshot().Waits.Any(w => w.WaitsFor.Contains(what, StringComparison.Ordinal) && !w.WaitsFor.Contains("work of", StringComparison.Ordinal));
    }

    [Fact]
    public void F5_jobs_that_want_the_same_buffers_in_different_orders_and_evict_each_others_go_on()
    {
        using var rig = new GpuRig();
        GpuBuffer[] buffers = [.. Enumerable.Range(0, 6).Select(i => rig.Buffer($"b{i}", 256 << 10, "vram=1M"))];
        const int Jobs = 400;
        Exception? failure = null;
        Thread[] users = [.. Enumerable.Range(0, 4).Select(user => new Thread(() =>
        {
            try
            {
                var random = new Random(user);
                for (int i = 0; i < Jobs; i++)
                {
                    int from = random.Next(buffers.Length);
                    int to = (from + 1 + random.Next(buffers.Length - 1)) % buffers.Length;
                    IComputeJob job = rig.Factory.Copy(buffers[from].Buffer, 0, buffers[to].Buffer, 4096, 4096);
                    if (i % 16 == 0)
                        job.Fence.Wait(GpuRig.Token);
                }
            }
            catch (DmaBufIoException e)
            {
                failure = e;
            }
        }))];
        foreach (Thread user in users)
            user.Start();
        foreach (Thread user in users)
            user.Join();
        Assert.Null(failure);
        Assert.True(buffers[0].Gpu.Memory.Evictions > 100, $"{buffers[0].Gpu.Memory.Evictions} evictions: too little happened");
    }

    [Fact]
    public void F5_a_job_that_is_wounded_while_it_waits_for_a_buffer_that_it_would_evict_gives_its_locks_back_and_starts_again()
    {
        using var rig = new GpuRig();
        GpuBuffer wanted = rig.Buffer("wanted", 1 << 20, "vram=1M");
        GpuBuffer resident = rig.Buffer("resident", 1 << 20);
        Assert.Equal((false, true), (wanted.Place.IsVram, resident.Place.IsVram));
        rig.Factory.Hash(resident.Buffer, 0, 4096).Fence.Wait(GpuRig.Token); // nothing is on its way any more
        var older = new AcquireContext();
        Exception? failure = null;
        Thread job;
        using (resident.Buffer.Reservation.Lock(older, GpuRig.Token))
        {
            job = new Thread(() =>
            {
                try
                {
                    rig.Factory.Hash(wanted.Buffer, 0, 4096).Fence.Wait(GpuRig.Token);
                }
                catch (DmaBufIoException e)
                {
                    failure = e;
                }
            });
            job.Start();
            GpuRig.Until(static () => Diagnostics.DmaBufIoDiagnostics.Snapshot().Locks.Any(static l => l.Buffer == "resident" && l.Waiters.Count != 0));
            using ReservationGuard both = wanted.Buffer.Reservation.Lock(older, GpuRig.Token);
        }

        job.Join();
        Assert.Null(failure);
        Assert.True(wanted.Place.IsVram);
    }

    [Fact]
    public void A_GPU_lives_while_it_has_buffers_and_its_properties_are_the_first_ones()
    {
        var factory = new GpuExporterFactory();
        DmaBuf first = factory.Create(GpuRig.Expression("vram=1M,slot=hb0/rp1"), "first", 4096);
        DmaBuf second = factory.Create(GpuRig.Expression(""), "second", 4096);
        var gpu = ((GpuBuffer)first.Exporter).Gpu;
        Assert.Same(gpu, ((GpuBuffer)second.Exporter).Gpu);
        Assert.Contains("gpu0 has 1048576 bytes of memory", Assert.Throws<DmaBufIoException>(() => factory.Create(GpuRig.Expression("vram=2M"), "third", 4096)).Message, StringComparison.Ordinal);
        Assert.Contains("gpu0 hangs at hb0/rp1", Assert.Throws<DmaBufIoException>(() => factory.Create(GpuRig.Expression("slot=hb0/rp2"), "third", 4096)).Message, StringComparison.Ordinal);
        DmaBuf apart = factory.Create(GpuRig.Expression("vram=2M", "card1"), "apart", 4096);
        Assert.NotSame(gpu, ((GpuBuffer)apart.Exporter).Gpu);
        first.Reservation.Wait(FenceUsage.Bookkeep, GpuRig.Token);
        second.Reservation.Wait(FenceUsage.Bookkeep, GpuRig.Token);
        apart.Reservation.Wait(FenceUsage.Bookkeep, GpuRig.Token);
        foreach (DmaBuf buffer in new[] { first, second, apart })
        {
            buffer.Put();
            GpuRig.Until(() => buffer.References == 0);
        }

        GpuRig.Until(() =>
        {
            DmaBuf anew = factory.Create(GpuRig.Expression(""), "anew", 4096);
            bool isNew = !ReferenceEquals(gpu, ((GpuBuffer)anew.Exporter).Gpu);
            long vram = ((GpuBuffer)anew.Exporter).Gpu.Vram;
            anew.Put();
            Assert.True(!isNew || vram == 256 << 20);
            return isNew;
        });
    }

    [Theory]
    [InlineData("vram=1", "no positive multiple of 65536")]
    [InlineData("vram=lots", "'lots' is not a size")]
    [InlineData("slot=hb0", "the root port is missing")]
    [InlineData("slot=hb0//p", "'' is no port")]
    [InlineData("placement=disk", "'disk' is no placement")]
    [InlineData("priority=9G", "'9G' is not a whole number")]
    [InlineData("colour=red", "'gpu' has no option 'colour'")]
    public void Wrong_options_are_refused_with_what_is_wrong(string options, string problem)
    {
        var factory = new GpuExporterFactory();
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => factory.Create(GpuRig.Expression(options), "b", 4096));
        Assert.Equal(Errno.EINVAL, refused.Errno);
        Assert.Contains(problem, refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Pressure_needs_room_for_the_buffer_and_others_beside_it()
    {
        using var rig = new GpuRig();
        GpuBuffer buffer = rig.Buffer("b", 1 << 20, "vram=1M");
        Assert.Equal(Errno.ENOMEM, Assert.Throws<DmaBufIoException>(() => rig.Factory.Press(buffer.Buffer)).Errno);
        using var memory = DmaBufIo.Memory.MemoryRegion.Allocate("host", 4096);
        DmaBuf host = DmaBuf.FromMemory(memory);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => rig.Factory.Press(host)).Errno);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => rig.Factory.Hash(host, 0, 1)).Errno);
        host.Put();
    }
}
