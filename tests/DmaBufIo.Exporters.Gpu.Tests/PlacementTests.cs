using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Memory;
using DmaBufIo.Importers.StackedRaid.Striped;
using DmaBufIo.Plugins;

namespace DmaBufIo.Exporters.Gpu.Tests;

/// <summary>Where a device is given the buffer, and whether that can be asked.</summary>
public sealed class PlacementTests
{
    private const long Size = 256 << 10;

    [Theory]
    [InlineData("hb0/rp1/sw0", "hb0/rp1/sw0", PlacementKind.PeerToPeer, "both hang below hb0/rp1/sw0")]
    [InlineData("hb0/rp1/sw0", "hb0/rp1", PlacementKind.PeerToPeer, "both hang below hb0/rp1")]
    [InlineData("hb0/rp1/sw0/p1+acs", "hb0/rp1/sw0/p2", PlacementKind.PeerToPeer, "access control at hb0/rp1/sw0/p1 sends their requests to the root complex, and host bridge hb0 forwards them")]
    [InlineData("hb0/rp1", "hb0/rp2", PlacementKind.PeerToPeer, "the devices hang on different root ports, and host bridge hb0 forwards them")]
    [InlineData("hb0+noforward/rp1", "hb0/rp2", PlacementKind.SystemMemory, "no peer-to-peer for nvme0: the devices hang on different root ports, and host bridge hb0 does not forward them")]
    [InlineData("hb0+noforward/rp1/sw0/p1+acs", "hb0+noforward/rp1/sw0/p2", PlacementKind.SystemMemory, "access control at hb0/rp1/sw0/p1 sends their requests to the root complex, and host bridge hb0 does not forward them")]
    [InlineData("hb0+noforward/rp1/sw0/p1", "hb0+noforward/rp1/sw0/p2", PlacementKind.PeerToPeer, "both hang below hb0/rp1/sw0")]
    [InlineData("hb0/rp1", "hb1/rp1", PlacementKind.SystemMemory, "the devices hang on different host bridges, hb0 and hb1")]
    [InlineData(null, "hb0/rp1", PlacementKind.SystemMemory, "where the device hangs in the PCI tree is not known")]
    public void A_device_that_reaches_the_GPUs_memory_gets_it_there_and_another_in_main_memory_and_the_reason_is_told(string? disk, string gpu, PlacementKind kind, string reason)
    {
        using var rig = new GpuRig();
        GpuBuffer buffer = rig.Buffer("b", Size, $"vram=1M,slot={gpu}");
        rig.Factory.Fill(buffer.Buffer, 0, Size, 9).Fence.Wait(GpuRig.Token);
        using GpuRing ring = rig.Open(rig.Disk(disk), buffer);
        ring.Write(0, 4096, 0);
        rig.Factory.Fill(buffer.Buffer, 0, Size, 0).Fence.Wait(GpuRig.Token);
        ring.Read(8192, 4096, 0);
        PlacementCount seen = ring.Attachment.Placements[0];
        Assert.Equal(kind, seen.Placement.Kind);
        Assert.Contains(reason, seen.Placement.Reason, StringComparison.Ordinal);
        Assert.Equal(kind == PlacementKind.PeerToPeer, buffer.Place.IsVram);
        Assert.All(GpuRig.Contents(buffer)[8192..12288], static v => Assert.Equal(9, v));
    }

    [Fact]
    public void A_buffer_that_was_evicted_is_given_out_in_main_memory_and_says_why()
    {
        using var rig = new GpuRig();
        GpuBuffer buffer = rig.Buffer("b", Size, "vram=1M");
        using GpuRing ring = rig.Open(rig.Disk(), buffer);
        ring.Write(0, 4096, 0);
        rig.Buffer("others", 1 << 20);
        ring.Write(0, 4096, 0);
        Assert.Equal(
            [(PlacementKind.PeerToPeer, "the devices hang on different root ports, and host bridge hb0 forwards them", 1L), (PlacementKind.SystemMemory, "evicted: others needed the GPU's memory", 1L)],
            ring.Attachment.Placements.OrderByDescending(static p => p.Placement.Kind).Select(static p => (p.Placement.Kind, p.Placement.Reason, p.Maps)));
    }

    [Fact]
    public void T12_a_composite_over_devices_of_which_one_does_not_reach_the_memory_is_made_in_main_memory_for_all()
    {
        using var rig = new GpuRig();
        GpuBuffer buffer = rig.Buffer("b", Size, "vram=1M,slot=hb0/rp1/sw0");
        BlockDevice[] disks = [rig.Disk("hb0/rp1/sw0"), rig.Disk("hb1/rp1")];
        BlockDevice set = new Raid0Factory().Create(new DeviceExpression("raid0", "4K", new Dictionary<string, DeviceOption>(), [], "raid0", 0), disks);
        rig.Factory.Fill(buffer.Buffer, 0, Size, 4).Fence.Wait(GpuRig.Token);
        var file = new Files.BlockDeviceFile(set);
        using (var ring = new Rings.Ring(new Rings.RingOptions { Name = "set" }))
        {
            ring.RegisterBuffer(0, new Rings.BufferRegistration { Buffer = buffer.Buffer, File = file });
            for (int round = 0; round < 3; round++)
            {
                Assert.True(ring.TryWriteFixed(file, 0, 0, Size, 0, 1));
                ring.Submit(GpuRig.Token);
                var completions = new Rings.RingCompletion[1];
                Assert.Equal(1, ring.Reap(completions, 1, GpuRig.Token));
                Assert.Equal(Errno.Ok, completions[0].Status);
                Assert.False(buffer.Place.IsVram);
                rig.Factory.Fill(buffer.Buffer, 0, Size, (byte)round).Fence.Wait(GpuRig.Token); // restores it
                Assert.True(buffer.Place.IsVram);
            }

            Assert.All(buffer.Buffer.Attached, static a => Assert.All(a.Placements, static p => Assert.Equal(PlacementKind.SystemMemory, p.Placement.Kind)));
            Rings.RemovedBuffer removed = ring.RemoveBuffer(0);
            ring.Dispose();
            Assert.Equal(Errno.Ok, removed.WaitReleased(GpuRig.Token));
        }

        file.Put();
    }

    [Fact]
    public void A_device_that_does_not_reach_the_memory_in_which_the_buffer_is_pinned_is_refused_with_EREMOTEIO_and_the_reason()
    {
        using var rig = new GpuRig();
        GpuBuffer buffer = rig.Buffer("b", Size, "vram=1M,slot=hb0/rp1/sw0");
        var device = new DmaDevice("static", rig.Iommu.AddDevice("static").Space) { Location = DeviceLocation.Parse("hb0/rp1/sw0") };
        DmaAttachment pin = buffer.Buffer.Attach(device, null);
        using (GpuRing far = rig.Open(rig.Disk("hb1/rp1"), buffer))
        {
            Assert.Equal(Errno.EREMOTEIO, far.Do(isWrite: true, 0, 4096, 0).Status);
            Assert.Contains("the devices hang on different host bridges, hb1 and hb0", far.Ring.TokenAt(0)!.LastMapError!.Message, StringComparison.Ordinal);
            Assert.True(buffer.Place.IsVram);
            buffer.Buffer.Detach(pin, null);
            far.Write(0, 4096, 0);
        }

        // One that pins it without reaching the GPU's memory has it in main memory.
        var remote = new DmaDevice("remote", rig.Iommu.AddDevice("remote").Space) { Location = DeviceLocation.Parse("hb1/rp3") };
        rig.Factory.Fill(buffer.Buffer, 0, Size, 1).Fence.Wait(GpuRig.Token);
        Assert.True(buffer.Place.IsVram);
        DmaAttachment remotePin = buffer.Buffer.Attach(remote, null);
        Assert.False(buffer.Place.IsVram);
        buffer.Buffer.Detach(remotePin, null);

        // The other way round: attached first, it decides where the buffer is pinned.
        using GpuRing first = rig.Open(rig.Disk("hb1/rp2"), buffer);
        rig.Factory.Fill(buffer.Buffer, 0, Size, 1).Fence.Wait(GpuRig.Token);
        pin = buffer.Buffer.Attach(device, null);
        first.Write(0, 4096, 0);
        Assert.False(buffer.Place.IsVram);
        rig.Factory.Fill(buffer.Buffer, 0, Size, 2).Fence.Wait(GpuRig.Token);
        Assert.False(buffer.Place.IsVram);
        buffer.Buffer.Detach(pin, null);
    }
}
