using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Memory;
using DmaBufIo.Files;
using DmaBufIo.Importers.NvmePci;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Pci;
using DmaBufIo.Pci.Model;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;

namespace DmaBufIo.Exporters.Gpu.Tests;

/// <summary>A GPU and NVMe controllers behind one IOMMU. What a test opens is closed by the rig, which then looks whether everything was given back and no access was a fault or stale.</summary>
internal sealed class GpuRig : IDisposable
{
    private readonly List<IPciBinding> _bindings = [];
    private readonly List<DmaBuf> _buffers = [];

    internal ModelIommu Iommu { get; } = new();

    internal GpuExporterFactory Factory { get; } = new();

    internal static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>Makes a buffer on the GPU, for example with "vram=8M,priority=1".</summary>
    internal GpuBuffer Buffer(string name, long size, string options = "")
    {
        var buffer = (GpuBuffer)Factory.Create(Expression(options), name, size).Exporter;
        _buffers.Add(buffer.Buffer);
        return buffer;
    }

    internal static DeviceExpression Expression(string options, string? text = null)
    {
        var parsed = new Dictionary<string, DeviceOption>();
        foreach (string option in options.Split(',', StringSplitOptions.RemoveEmptyEntries))
            parsed[option.Split('=')[0]] = new DeviceOption(option.Split('=')[1], 0, 0);
        return new DeviceExpression("gpu", text, parsed, [], "gpu", 0);
    }

    /// <summary>A controller with a namespace in memory, somewhere in the PCI tree.</summary>
    internal BlockDevice Disk(string? slot = "hb0/rp9", bool ownThread = false)
    {
        var options = new NvmeModelOptions { Name = $"disk{_bindings.Count}", SizeBytes = 4 << 20, OwnThread = ownThread, Location = slot is null ? null : DeviceLocation.Parse(slot) };
        IPciBinding binding = new NvmePciDriver().Probe(new NvmeControllerModel(options, Iommu), $"nvme{_bindings.Count}");
        _bindings.Add(binding);
        return binding.BlockDevices[0];
    }

    internal GpuRing Open(BlockDevice disk, GpuBuffer buffer, Dma.DmaDirection direction = Dma.DmaDirection.Bidirectional, TransferPolicy policy = TransferPolicy.Direct) =>
        new(disk, buffer, direction, policy);

    /// <summary>What lies in a buffer, where it is; nothing moves it.</summary>
    internal static byte[] Contents(GpuBuffer buffer)
    {
        Assert.Equal(Errno.Ok, buffer.Buffer.Reservation.Wait(FenceUsage.Bookkeep, Token));
        byte[] all = new byte[buffer.Buffer.Size];
        int at = 0;
        foreach (DmaBufIo.Memory.MemoryRange range in buffer.Place.Memory)
        {
            range.Region.Span(range.Offset, (int)range.Length).CopyTo(all.AsSpan(at));
            at += (int)range.Length;
        }

        return all;
    }

    /// <summary>Waits for something that a worker does.</summary>
    internal static void Until(Func<bool> condition)
    {
        long begun = System.Diagnostics.Stopwatch.GetTimestamp();
        while (!condition())
        {
            Assert.True(System.Diagnostics.Stopwatch.GetElapsedTime(begun) < TimeSpan.FromSeconds(30), "it does not come about");
            Token.ThrowIfCancellationRequested();
            Thread.Yield();
        }
    }

    public void Dispose()
    {
        foreach (IPciBinding binding in _bindings)
            binding.Dispose();
        foreach (DmaBuf buffer in _buffers)
        {
            Assert.Equal(Errno.Ok, buffer.Reservation.Wait(FenceUsage.Bookkeep, Token));
            buffer.Put();
        }

        Until(() => _buffers.TrueForAll(static b => b.References == 0)); // the engines give theirs back right after the fence
        Assert.True(Iommu.Faults == 0 && Iommu.StaleAccesses == 0, string.Join(Environment.NewLine, Iommu.Reports));
        Assert.True(Iommu.LeakedMappings == 0, string.Join(Environment.NewLine, Iommu.LeakedMappingDescriptions));
        Iommu.Dispose();
    }
}

/// <summary>A ring on one disk, with a buffer of the GPU in slot 0.</summary>
internal sealed class GpuRing : IDisposable
{
    internal GpuRing(BlockDevice disk, GpuBuffer buffer, Dma.DmaDirection direction, TransferPolicy policy)
    {
        File = new BlockDeviceFile(disk);
        Ring = new Ring(new RingOptions { Name = "test", Entries = 16 });
        Ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer.Buffer, File = File, Direction = direction, Policy = policy });
        Attachment = buffer.Buffer.Attached.Single(a => disk.Name.StartsWith(a.Device.Name, StringComparison.Ordinal));
    }

    internal BlockDeviceFile File { get; }

    internal Ring Ring { get; }

    internal DmaAttachment Attachment { get; }

    internal RingCompletion Do(bool isWrite, long memory, long length, long offset)
    {
        Assert.True(isWrite ? Ring.TryWriteFixed(File, 0, memory, length, offset, 1) : Ring.TryReadFixed(File, 0, memory, length, offset, 1));
        Ring.Submit(GpuRig.Token);
        var completions = new RingCompletion[1];
        Assert.Equal(1, Ring.Reap(completions, 1, GpuRig.Token));
        return completions[0];
    }

    internal void Write(long memory, long length, long offset) => Assert.Equal(new RingCompletion(1, Errno.Ok, length), Do(true, memory, length, offset));

    internal void Read(long memory, long length, long offset) => Assert.Equal(new RingCompletion(1, Errno.Ok, length), Do(false, memory, length, offset));

    public void Dispose()
    {
        Tokens.DmaBufToken? token = Ring.TokenAt(0);
        Ring.Dispose();
        Assert.Equal(Errno.Ok, token?.WaitReleased(GpuRig.Token) ?? Errno.Ok);
        File.Put();
    }

}
