using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Docs.Tests.Examples;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Docs.Tests;

/// <summary>The device and the exporter of docs/driver-protocol.md do what the page says.</summary>
public sealed class DriverProtocolTests : IDisposable
{
    private readonly ModelIommu _iommu = new();
    private readonly ScratchDisk _disk;
    private readonly ScratchExporter _exporter = new("b0", 64 << 10);
    private readonly BlockDeviceFile _file;

    public DriverProtocolTests()
    {
        _disk = new ScratchDisk(_iommu);
        _file = new BlockDeviceFile(_disk);
        new Random(1).NextBytes(_disk.Contents);
    }

    public void Dispose()
    {
        _file.Put();
        if (!_disk.IsRemoved)
            _disk.Dispose();
        _exporter.Buffer.Put();
        Assert.Equal((0, 0, 0), (_iommu.Faults, _iommu.StaleAccesses, _iommu.LeakedMappings));
        _iommu.Dispose();
    }

    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void The_example_reads_and_writes_while_the_buffer_moves(InvalidationDesign design)
    {
        using (Ring ring = Open(design))
        {
            for (int i = 0; i < 8; i++)
            {
                Assert.Equal([new RingCompletion(1, Errno.Ok, 4096)], Read(ring, 4096L * i));
                Assert.Equal(1, _exporter.Move().KilledMaps);
                Assert.True(Bytes(0, 4096).SequenceEqual(_disk.Contents.Slice(4096 * i, 4096)));
            }

            Bytes(0, 4096).Fill(7);
            Assert.True(ring.TryWriteFixed(_file, 0, 0, 4096, 512, 2));
            Assert.True(ring.TryFlush(_file, 3));
            Assert.Equal([new RingCompletion(2, Errno.Ok, 4096), new RingCompletion(3, Errno.Ok, 0)], Run(ring, 2));
            Assert.True(_disk.Contents.Slice(512, 4096).IndexOfAnyExcept((byte)7) < 0);
            AwaitRelease(ring);
        }
    }

    [Fact]
    public void T11_its_reset_ends_what_is_in_flight_once_and_the_next_request_makes_a_new_map()
    {
        using (Ring ring = Open(InvalidationDesign.Draining))
        {
            Assert.True(ring.TryReadFixed(_file, 0, 0, 4096, 0, 1));
            ring.Submit(TestContext.Current.CancellationToken);
            ((IResettable)_disk).Reset();
            Assert.Equal([new RingCompletion(1, Errno.ECANCELED, 0)], Reap(ring, 1));
            Assert.Equal([new RingCompletion(1, Errno.Ok, 4096)], Read(ring, 0));
            Assert.Equal(2, ring.TokenAt(0)!.MapsMade);
            AwaitRelease(ring);
        }
    }

    [Fact]
    public void T11_its_removal_ends_what_is_in_flight_once_and_the_token_answers_ENODEV()
    {
        using (Ring ring = Open(InvalidationDesign.Draining))
        {
            Assert.True(ring.TryReadFixed(_file, 0, 0, 4096, 0, 1));
            ring.Submit(TestContext.Current.CancellationToken);
            _disk.Dispose();
            Assert.Equal([new RingCompletion(1, Errno.ENODEV, 0)], Reap(ring, 1));
            Assert.True(ring.TryReadFixed(_file, 0, 0, 4096, 0, 1));
            Assert.Equal([new RingCompletion(1, Errno.ENODEV, 0)], Run(ring, 1));
            AwaitRelease(ring);
        }
    }

    private Ring Open(InvalidationDesign design)
    {
        var ring = new Ring(new RingOptions { Entries = 8, Tokens = TokenOptions.Default with { Design = design } });
        ring.RegisterBuffer(0, new BufferRegistration { Buffer = _exporter.Buffer, File = _file, Direction = DmaDirection.Bidirectional });
        return ring;
    }

    private Span<byte> Bytes(long offset, int length) => _exporter.Buffer.Describe().Ranges[0].Region.Span(offset, length);

    private RingCompletion[] Read(Ring ring, long fileOffset)
    {
        Assert.True(ring.TryReadFixed(_file, 0, 0, 4096, fileOffset, 1));
        return Run(ring, 1);
    }

    private RingCompletion[] Run(Ring ring, int count)
    {
        ring.Submit(TestContext.Current.CancellationToken);
        _disk.Work();
        return Reap(ring, count);
    }

    private static RingCompletion[] Reap(Ring ring, int count)
    {
        var completions = new RingCompletion[count];
        Assert.Equal(count, ring.Reap(completions, count, TestContext.Current.CancellationToken));
        return completions;
    }

    private static void AwaitRelease(Ring ring) => Assert.Equal(Errno.Ok, ring.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken));
}
