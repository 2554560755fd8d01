using DmaBufIo.Block;
using DmaBufIo.ContractTests;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;

namespace MovingRam.ContractTests;

/// <summary>Buffers of this exporter between a device on strings and a modelled IOMMU that notices every access to a place that was left.</summary>
public sealed class MoveTests : IDisposable
{
    private readonly ModelIommu _iommu = new();
    private readonly DmaBufIoHost _host;
    private readonly ExportedBuffer _buffer;
    private readonly PuppetBlockDevice _device;
    private readonly BlockDeviceFile _file;
    private readonly Ring _ring;

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    public MoveTests()
    {
        _host = DmaBufIoHost.Create(new DmaBufIoOptions { LoadPluginFolder = false }.UseFabric(_iommu));
        PluginStatus plugin = _host.Plugins.Load(PluginFolders.Of("MovingRam"));
        Assert.True(plugin.State == PluginState.Loaded, plugin.Reason);
        _buffer = _host.CreateBuffer("movingram", "buffer", 64 << 10);
        (DmaAddressSpace space, DmaPort port) = _iommu.AddDevice("puppet");
        _device = new PuppetBlockDevice("puppet", space, port, 1 << 20, new QueueLimits(512));
        _file = new BlockDeviceFile(_device, OpenFlags.Direct);
        _ring = new Ring(_host.RingOptions with { Entries = 4 });
        _ring.RegisterBuffer(0, new BufferRegistration { Buffer = _buffer.Buffer, File = _file });
    }

    public void Dispose()
    {
        _ring.Dispose();
        _file.Put();
        _host.Dispose();
        _iommu.Dispose();
    }

    [Fact]
    public void F7_data_goes_along_and_no_device_touches_the_place_that_was_left()
    {
        Random.Shared.NextBytes(_device.Store[..8192]);
        byte[] data = _device.Store[..8192].ToArray();
        Assert.True(_ring.TryReadFixed(_file, slot: 0, bufferOffset: 4096, length: 8192, fileOffset: 0, userData: 1));
        Run();

        for (int i = 0; i < 3; i++)
        {
            _buffer.Move(Cancelled);
            _device.Store.Clear();
            Assert.True(_ring.TryWriteFixed(_file, slot: 0, bufferOffset: 4096, length: 8192, fileOffset: 512, userData: 1));
            Run();
            Assert.True(_device.Store.Slice(512, 8192).SequenceEqual(data));
        }

        Assert.Equal((0, 0), (_iommu.Faults, _iommu.StaleAccesses));
    }

    [Fact]
    public async Task F7_a_move_waits_for_the_request_that_uses_the_buffer()
    {
        _device.Hold = true;
        Assert.True(_ring.TryReadFixed(_file, slot: 0, bufferOffset: 0, length: 4096, fileOffset: 0, userData: 1));
        _ring.Submit(Cancelled);
        MemoryPlace before = Place();

        Task<InvalidationReport> move = Task.Run(() => _buffer.Move(Cancelled), Cancelled);
        while (!_buffer.Buffer.Reservation.IsLocked)
            Thread.Yield();
        Assert.False(move.IsCompleted);
        Assert.Equal(before, Place());
        _device.Finish();
        Reap();

        Assert.Equal(1, (await move).KilledMaps);
        Assert.NotEqual(before, Place());
        Assert.Equal((0, 0), (_iommu.Faults, _iommu.StaleAccesses));
    }

    [Fact]
    public void A_buffer_that_a_static_attachment_pins_does_not_move()
    {
        DmaAttachment attachment = _buffer.Buffer.Attach(_device.Device, target: null);
        Assert.Equal(Errno.EBUSY, Assert.Throws<DmaBufIoException>(() => _buffer.Move(Cancelled)).Errno);
        _buffer.Buffer.Detach(attachment, target: null);

        MemoryPlace before = Place();
        _buffer.Move(Cancelled);
        Assert.NotEqual(before, Place());
    }

    private MemoryPlace Place() => new(_buffer.Buffer.Describe().Ranges[0].Region.Id);

    private void Run()
    {
        _ring.Submit();
        Reap();
    }

    private void Reap()
    {
        var completions = new RingCompletion[1];
        Assert.Equal(1, _ring.Reap(completions, minimum: 1));
        Assert.Equal(Errno.Ok, completions[0].Status);
    }

    private readonly record struct MemoryPlace(long Id);
}
