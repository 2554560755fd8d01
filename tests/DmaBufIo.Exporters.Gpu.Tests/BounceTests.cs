using DmaBufIo.Devices;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Memory;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;

namespace DmaBufIo.Exporters.Gpu.Tests;

/// <summary>Requests for which there is no way into the GPU's memory but through main memory.</summary>
public sealed class BounceTests
{
    private const long Size = 256 << 10;

    [Fact]
    public void A_request_of_a_device_that_does_not_reach_the_pinned_buffer_is_bounced_where_that_is_allowed_and_says_so()
    {
        using var rig = new GpuRig();
        GpuBuffer buffer = rig.Buffer("b", Size, "vram=1M,slot=hb0/rp1/sw0");
        var device = new DmaDevice("static", rig.Iommu.AddDevice("static").Space) { Location = DeviceLocation.Parse("hb0/rp1/sw0") };
        DmaAttachment pin = buffer.Buffer.Attach(device, null);
        rig.Factory.Fill(buffer.Buffer, 0, Size, 6).Fence.Wait(GpuRig.Token);
        using (GpuRing ring = rig.Open(rig.Disk("hb1/rp1"), buffer, policy: TransferPolicy.AllowBounce))
        {
            Assert.Equal((Errno.Ok, 8192, BounceReason.NoPeerToPeer), Outcome(ring.Do(isWrite: true, 4096, 8192, 0)));
            rig.Factory.Fill(buffer.Buffer, 0, Size, 0).Fence.Wait(GpuRig.Token);
            Assert.Equal((Errno.Ok, 8192, BounceReason.NoPeerToPeer), Outcome(ring.Do(isWrite: false, 0, 8192, 0)));
            Assert.True(buffer.Place.IsVram);

            // Where the buffer may go to main memory, the device is given it there.
            buffer.Buffer.Detach(pin, null);
            rig.Factory.Move(buffer.Buffer, GpuRig.Token);
            Assert.Equal((Errno.Ok, 4096, BounceReason.None), Outcome(ring.Do(isWrite: true, 0, 4096, 0)));
        }

        Assert.All(GpuRig.Contents(buffer)[..8192], static v => Assert.Equal(6, v));
    }

    [Fact]
    public void T12_a_bounced_read_waits_for_a_job_that_reads_what_it_would_overwrite()
    {
        using var rig = new GpuRig();
        GpuBuffer buffer = rig.Buffer("b", Size, "vram=1M");
        using GpuRing ring = rig.Open(rig.Disk(), buffer, policy: TransferPolicy.AllowBounce);
        rig.Factory.Fill(buffer.Buffer, 0, Size, 6).Fence.Wait(GpuRig.Token);
        buffer.Gpu.Compute.IsHeld = true;
        IComputeJob job = rig.Factory.Hash(buffer.Buffer, 0, Size);
        RingCompletion end = default;
        var io = new Thread(() => end = ring.Do(isWrite: false, 2, 4096, 0)); // not aligned: no device could
        io.Start();
        GpuRig.Until(() => Diagnostics.DmaBufIoDiagnostics.Snapshot().Waits.Any(static w => w.WaitsFor.Contains("compute engine", StringComparison.Ordinal) && !w.WaitsFor.Contains("work of", StringComparison.Ordinal)) || !io.IsAlive);
        Assert.True(io.IsAlive);
        buffer.Gpu.Compute.IsHeld = false;
        io.Join();
        job.Fence.Wait(GpuRig.Token);
        Assert.Equal((Errno.Ok, 4096, BounceReason.Unaligned), Outcome(end));
        byte[] expected = new byte[Size];
        expected.AsSpan().Fill(6);
        Assert.Equal(System.Security.Cryptography.SHA256.HashData(expected), job.Result.ToArray());
        Assert.All(GpuRig.Contents(buffer)[2..4098], static v => Assert.Equal(0, v));
    }

    private static (Errno Status, long Bytes, BounceReason Bounce) Outcome(in RingCompletion completion) => (completion.Status, completion.Bytes, completion.Bounce);
}
