using DmaBufIo.Block;
using DmaBufIo.Files;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests;

/// <summary>One buffer that moves, one puppet device opened as a file, one ring with the buffer in slot 0, under a strict IOMMU.</summary>
internal sealed class Stage : IDisposable
{
    internal const int BufferSize = 1 << 20;
    private const int DeviceSize = 4 << 20;

    internal Stage(TokenOptions? tokens = null, RingOptions? ring = null, QueueLimits? limits = null, bool register = true)
    {
        Iommu = new ModelIommu(new ModelIommuOptions());
        Device = AddDevice("puppet0", limits);
        File = new BlockDeviceFile(Device);
        Exporter = MovingExporter.Create("b0", BufferSize);
        Ring = new Ring((ring ?? new RingOptions { Name = "ring0", Entries = 32 }) with { Tokens = tokens ?? TokenOptions.Default });
        if (register)
            Ring.RegisterBuffer(0, new BufferRegistration { Buffer = Exporter.Buffer, File = File });
    }

    internal ModelIommu Iommu { get; }

    internal PuppetBlockDevice Device { get; }

    internal BlockDeviceFile File { get; }

    internal MovingExporter Exporter { get; }

    internal Ring Ring { get; }

    internal DmaBufToken Token => Ring.TokenAt(0)!;

    internal PuppetBlockDevice AddDevice(string name, QueueLimits? limits = null)
    {
        (Dma.DmaAddressSpace space, Dma.DmaPort port) = Iommu.AddDevice(name);
        return new PuppetBlockDevice(name, space, port, DeviceSize, limits ?? new QueueLimits(512));
    }

    internal void Read(long length = 4096, long bufferOffset = 0, long fileOffset = 0, ulong userData = 1) =>
        Assert.True(Ring.TryReadFixed(File, 0, bufferOffset, length, fileOffset, userData));

    internal void Write(long length = 4096, long bufferOffset = 0, long fileOffset = 0, ulong userData = 1) =>
        Assert.True(Ring.TryWriteFixed(File, 0, bufferOffset, length, fileOffset, userData));

    /// <summary>Submits what is prepared and reaps as many completions.</summary>
    internal RingCompletion[] Run()
    {
        int count = Ring.Submit();
        return Reap(count);
    }

    internal RingCompletion[] Reap(int count)
    {
        var completions = new RingCompletion[count];
        int reaped = 0;
        while (reaped < count)
            reaped += Ring.Reap(completions.AsSpan(reaped), 1, TestContext.Current.CancellationToken);
        return completions;
    }

    public void Dispose()
    {
        Device.Hold = false;
        Device.Finish();
        Ring.Dispose();

        // The references go last of all, on a worker: after them nothing of the tokens is left.
        Assert.Equal(Errors.Errno.Ok, WaitFor(() => Device.LiveTokens == 0 && Exporter.Buffer.References == 1));
        Exporter.Buffer.Put();
        Assert.Equal(0, Exporter.Buffer.References);
        Assert.Equal(0, Device.LiveMaps);
        Assert.Equal(0, Iommu.StaleAccesses);
        Assert.Equal(0, Iommu.Faults);
        Iommu.Dispose();
    }

    /// <summary>Waits for something that workers do.</summary>
    internal static Errors.Errno WaitFor(Func<bool> condition)
    {
        var queue = new Sync.WaitQueue();
        long started = System.Diagnostics.Stopwatch.GetTimestamp();
        while (true)
        {
            if (System.Diagnostics.Stopwatch.GetElapsedTime(started) > SyncTests.Actor.Limit)
                return Errors.Errno.ETIMEDOUT;
            Errors.Errno status = queue.Wait(condition, new Sync.WaitReason("test"), TestContext.Current.CancellationToken, null, TimeSpan.FromMilliseconds(1));
            if (status != Errors.Errno.EAGAIN)
                return status;
        }
    }
}
