using System.Security.Cryptography;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Memory;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;

namespace DmaBufIo.Exporters.Gpu.Tests;

/// <summary>The order of the GPU's jobs and I/O on one buffer (T12, PROTOCOL §12).</summary>
public sealed class OrderTests
{
    private const long Size = 256 << 10;

    [Fact]
    public void T12_a_job_sees_what_a_read_has_brought_that_was_reaped_before_it()
    {
        using var rig = new GpuRig();
        GpuBuffer buffer = rig.Buffer("b", Size, "vram=1M");
        using GpuRing ring = rig.Open(rig.Disk(), buffer);
        for (int round = 0; round < 5; round++)
        {
            rig.Factory.Fill(buffer.Buffer, 0, Size, (byte)(10 + round)).Fence.Wait(GpuRig.Token);
            ring.Write(0, 8192, 0);

            // What it holds now is known to the GPU, also to its cache; then a device writes.
            rig.Factory.Fill(buffer.Buffer, 0, Size, 0).Fence.Wait(GpuRig.Token);
            IComputeJob before = rig.Factory.Hash(buffer.Buffer, 0, 8192);
            before.Fence.Wait(GpuRig.Token);
            Assert.Equal(SHA256.HashData(new byte[8192]), before.Result.ToArray());
            ring.Read(0, 8192, 0);
            IComputeJob after = rig.Factory.Hash(buffer.Buffer, 0, 8192);
            after.Fence.Wait(GpuRig.Token);
            byte[] expected = new byte[8192];
            expected.AsSpan().Fill((byte)(10 + round));
            Assert.Equal(SHA256.HashData(expected), after.Result.ToArray());
        }
    }

    [Fact]
    public void T12_a_request_after_a_job_that_writes_waits_until_the_job_has_ended()
    {
        using var rig = new GpuRig();
        GpuBuffer buffer = rig.Buffer("b", Size, "vram=1M");
        using GpuRing ring = rig.Open(rig.Disk(), buffer);
        ring.Write(0, 4096, 0);
        buffer.Gpu.Compute.IsHeld = true;
        IComputeJob job = rig.Factory.Fill(buffer.Buffer, 0, Size, 6);
        Thread io = Start(() => ring.Write(0, 4096, 0));
        try
        {
            // With the lock held, by the thread that waits and by nobody else, where no new job can come: else a buffer that always has a job would keep its requests waiting.
            GpuRig.Until(() =>
            {
                Diagnostics.Snapshot now = Diagnostics.DmaBufIoDiagnostics.Snapshot();
                return now.Waits.Any(w => w.WaitsFor.Contains("compute engine", StringComparison.Ordinal) && now.Locks.Any(l => l.Buffer == "b" && l.Holder == w.Thread));
            });
            Assert.True(io.IsAlive);
            Assert.False(job.Fence.IsSignaled);
        }
        finally
        {
            buffer.Gpu.Compute.IsHeld = false;
        }

        io.Join();
        ring.Read(8192, 4096, 0);
        Assert.All(GpuRig.Contents(buffer)[8192..12288], static v => Assert.Equal(6, v));
    }

    [Theory]
    [InlineData(DmaDirection.ToDevice, false)]
    [InlineData(DmaDirection.FromDevice, true)]
    [InlineData(DmaDirection.Bidirectional, true)]
    public void T12_a_job_that_only_reads_is_waited_for_by_devices_that_write_and_not_by_those_that_read(DmaDirection direction, bool waits)
    {
        using var rig = new GpuRig();
        GpuBuffer buffer = rig.Buffer("b", Size, "vram=1M");
        using GpuRing ring = rig.Open(rig.Disk(), buffer, direction);
        rig.Factory.Fill(buffer.Buffer, 0, Size, 6).Fence.Wait(GpuRig.Token);
        buffer.Gpu.Compute.IsHeld = true;
        IComputeJob job = rig.Factory.Hash(buffer.Buffer, 0, Size);
        bool isWrite = direction == DmaDirection.ToDevice;
        Thread io = Start(() => ring.Do(isWrite, 0, 4096, 0));
        if (waits)
            UntilSomebodyWaitsFor("compute engine");
        else
            io.Join();
        Assert.False(job.Fence.IsSignaled);
        buffer.Gpu.Compute.IsHeld = false;
        io.Join();
        job.Fence.Wait(GpuRig.Token);
        byte[] expected = new byte[Size];
        expected.AsSpan().Fill(6);
        Assert.Equal(SHA256.HashData(expected), job.Result.ToArray());
    }

    [Fact]
    public void T17_requests_in_flight_end_before_a_job_on_their_buffer_begins()
    {
        using var rig = new GpuRig();
        (DmaAddressSpace space, DmaPort port) = rig.Iommu.AddDevice("puppet");
        var device = new Models.Puppets.PuppetBlockDevice("puppet", space, port, 1 << 20, new Block.QueueLimits(512)) { Hold = true };
        GpuBuffer buffer = rig.Buffer("b", Size, "vram=1M,placement=system"); // the job moves nothing
        var file = new Files.BlockDeviceFile(device);
        using (var ring = new Ring(new RingOptions { Name = "test" }))
        {
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer.Buffer, File = file });
            device.Store.Fill(3);
            Assert.True(ring.TryReadFixed(file, 0, 0, 4096, 0, 1));
            ring.Submit(GpuRig.Token);
            IComputeJob? job = null;
            Thread user = Start(() => job = rig.Factory.Hash(buffer.Buffer, 0, 4096));
            UntilSomebodyWaitsFor("drain of");
            Assert.Null(job);
            device.Finish();
            user.Join();
            job!.Fence.Wait(GpuRig.Token);
            byte[] expected = new byte[4096];
            expected.AsSpan().Fill(3);
            Assert.Equal(SHA256.HashData(expected), job.Result.ToArray());
            RemovedBuffer removed = ring.RemoveBuffer(0);
            ring.Dispose();
            Assert.Equal(Errno.Ok, removed.WaitReleased(GpuRig.Token));
        }

        file.Put();
    }

    [Fact]
    public void Requests_go_on_though_there_is_always_a_job_on_their_buffer()
    {
        using var rig = new GpuRig();
        GpuBuffer buffer = rig.Buffer("b", Size, "vram=1M");
        using GpuRing ring = rig.Open(rig.Disk(), buffer);
        bool isDone = false;
        Thread user = Start(() =>
        {
            IComputeJob before = rig.Factory.Fill(buffer.Buffer, 0, Size, 1);
            while (!Volatile.Read(ref isDone))
            {
                IComputeJob next = rig.Factory.Fill(buffer.Buffer, 0, Size, 1);
                before.Fence.Wait(GpuRig.Token);
                before = next;
            }
        });
        int requests = 0;
        Thread io = Start(() =>
        {
            for (int i = 0; i < 20; i++)
            {
                ring.Write(0, 4096, i * 4096);
                Interlocked.Increment(ref requests);
            }
        });
        GpuRig.Until(() => Volatile.Read(ref requests) == 20);
        isDone = true;
        io.Join();
        user.Join();
    }

    [Fact]
    public void A_move_comes_after_the_jobs_that_were_submitted_before_it()
    {
        using var rig = new GpuRig();
        GpuBuffer buffer = rig.Buffer("b", Size, "vram=1M");
        buffer.Gpu.Compute.IsHeld = true;
        IComputeJob fill = rig.Factory.Fill(buffer.Buffer, 0, Size, 8);
        rig.Factory.Move(buffer.Buffer, GpuRig.Token);
        UntilSomebodyWaitsFor("compute engine"); // the copy engine, for the job
        IComputeJob hash = rig.Factory.Hash(buffer.Buffer, 0, Size); // brings it back
        Assert.False(fill.Fence.IsSignaled);
        buffer.Gpu.Compute.IsHeld = false;
        hash.Fence.Wait(GpuRig.Token);
        byte[] expected = new byte[Size];
        expected.AsSpan().Fill(8);
        Assert.Equal(SHA256.HashData(expected), hash.Result.ToArray());
        Assert.Equal(2, buffer.Moves);
    }

    [Fact]
    public void Copies_between_buffers_and_within_one_put_each_byte_where_it_belongs()
    {
        using var rig = new GpuRig();
        GpuBuffer a = rig.Buffer("a", Size, "vram=1M");
        GpuBuffer b = rig.Buffer("b", Size);
        for (int i = 0; i < 16; i++)
            rig.Factory.Fill(a.Buffer, i * 1000, 1000, (byte)(i + 1));
        rig.Factory.Copy(a.Buffer, 500, b.Buffer, 70_001, 15_000);
        rig.Factory.Copy(b.Buffer, 70_001, b.Buffer, 3, 15_000).Fence.Wait(GpuRig.Token);
        byte[] model = new byte[Size];
        for (int i = 0; i < 16; i++)
            model.AsSpan(i * 1000, 1000).Fill((byte)(i + 1));
        Assert.Equal(model, GpuRig.Contents(a));
        byte[] copy = new byte[Size];
        model.AsSpan(500, 15_000).CopyTo(copy.AsSpan(70_001));
        model.AsSpan(500, 15_000).CopyTo(copy.AsSpan(3));
        Assert.Equal(copy, GpuRig.Contents(b));
        Assert.Equal(Errno.EFAULT, Assert.Throws<DmaBufIoException>(() => rig.Factory.Fill(a.Buffer, Size - 1, 2, 0)).Errno);
        Assert.Equal(Errno.EFAULT, Assert.Throws<DmaBufIoException>(() => rig.Factory.Hash(a.Buffer, long.MaxValue, 2)).Errno);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => rig.Factory.Copy(a.Buffer, 0, a.Buffer, 10, 11)).Errno);
    }

    private static Thread Start(Action action)
    {
        var thread = new Thread(() => action()) { IsBackground = true };
        thread.Start();
        return thread;
    }

    private static void UntilSomebodyWaitsFor(string what) =>
        GpuRig.Until(() => Diagnostics.DmaBufIoDiagnostics.Snapshot().Waits.Any(w => w.WaitsFor.Contains(what, StringComparison.Ordinal) && !w.WaitsFor.Contains("work of", StringComparison.Ordinal)));
}
