using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Memory;
using NSubstitute;

namespace RamDisk.UnitTests;

/// <summary>The driver alone, between doubles: what it asks of the fabric, of its address space and of its port. The contracts look at the rest.</summary>
public sealed class DiskTests : IDisposable
{
    private readonly IDmaFabric _fabric = Substitute.For<IDmaFabric>();
    private readonly DmaAddressSpace _space = Substitute.For<DmaAddressSpace>();
    private readonly PortDouble _port = Substitute.For<PortDouble>();
    private readonly MemoryRegion _memory = MemoryRegion.Allocate("memory", 8192);
    private readonly IoContext _context = new("unit tests");
    private readonly BioPool _bios = new(4);
    private readonly Disk _disk;
    private readonly BlockQueue _queue;
    private DeviceRange? _mapped;

    public DiskTests()
    {
        _space.Granularity.Returns(4096);
        _space.Map(Arg.Any<MemoryRange>(), Arg.Any<DmaDirection>(), Arg.Any<string>(), Arg.Any<long>())
            .Returns(call => _mapped = new DeviceRange(_space, 0x10000, call.Arg<MemoryRange>(), call.Arg<DmaDirection>(), "memory", 0));
        _fabric.AddDevice("disk").Returns((_space, _port));
        _disk = new Disk(_fabric, "disk", 1 << 20);
        _queue = _disk.OpenQueue(_context, _bios, 4);
    }

    public void Dispose()
    {
        _queue.Dispose();
        _disk.Dispose();
        _bios.Dispose();
        _context.Dispose();
        _memory.Dispose();
    }

    [Fact]
    public void What_was_written_is_read_again_through_the_port_and_mapped_for_each_request_alone()
    {
        byte[] data = [.. Enumerable.Range(0, 512).Select(static i => (byte)i)];
        _port.Found(0x10200, 512).Returns(data);
        _port.Written(0x10400, Arg.Is<byte[]>(b => Enumerable.SequenceEqual(b, data))).Returns(Errno.Ok);

        Assert.Equal(Errno.Ok, Run(BioOperation.Write, memoryOffset: 512, sector: 3));
        DeviceRange forWriting = _mapped!;
        Assert.Equal(Errno.Ok, Run(BioOperation.Read, memoryOffset: 1024, sector: 3));

        Assert.Equal((DmaDirection.ToDevice, DmaDirection.FromDevice), (forWriting.Direction, _mapped!.Direction));
        _port.Received(1).Written(0x10400, Arg.Is<byte[]>(b => Enumerable.SequenceEqual(b, data)));
        _space.Received(1).Unmap(forWriting);
        _space.Received(1).Unmap(_mapped);
    }

    [Theory]
    [InlineData(BioOperation.Read)]
    [InlineData(BioOperation.Write)]
    public void A_fault_of_the_port_ends_the_request_with_an_error_and_the_mapping_is_given_back(BioOperation operation)
    {
        _port.Found(Arg.Any<ulong>(), Arg.Any<int>()).Returns((byte[]?)null);
        _port.Written(Arg.Any<ulong>(), Arg.Any<byte[]>()).Returns(Errno.EFAULT);

        Assert.Equal(Errno.EIO, Run(operation, memoryOffset: 0, sector: 0));

        _space.Received(1).Unmap(_mapped!);
    }

    [Fact]
    public void A_flush_touches_no_memory()
    {
        Assert.True(_bios.TryAllocateFlush(out BioHandle bio));
        Assert.Equal(Errno.Ok, Run(bio));

        Assert.Null(_mapped);
        Assert.Empty(_port.ReceivedCalls());
    }

    [Fact]
    public void A_queue_takes_no_more_than_it_has_room_for()
    {
        using BlockQueue small = _disk.OpenQueue(_context, _bios, 2);
        BioHandle[] bios = [.. Enumerable.Range(0, 3).Select(_ => Bio(BioOperation.Read, 0, 0))];

        Assert.Equal(2, small.Room);
        Assert.Equal(2, small.Submit(bios));
        Assert.Equal(0, small.Room);
        Assert.Equal(0, small.Submit(bios.AsSpan(2)));
        small.Commit();
        Assert.Equal(2, small.Poll(8));
        Assert.Equal(2, small.Room);
    }

    [Fact]
    public void T11_a_removed_disk_ends_requests_and_has_left_the_fabric()
    {
        _disk.Dispose();

        Assert.Equal(Errno.ENODEV, Run(BioOperation.Read, memoryOffset: 0, sector: 0));
        Assert.Empty(_port.ReceivedCalls());
        _fabric.Received(1).RemoveDevice(_space);
    }

    private Errno Run(BioOperation operation, long memoryOffset, long sector) => Run(Bio(operation, memoryOffset, sector));

    private Errno Run(BioHandle bio)
    {
        Assert.Equal(1, _queue.Submit([bio]));
        _queue.Commit();
        Assert.Equal(1, _queue.Poll(8));
        return _bios[bio].Status;
    }

    private BioHandle Bio(BioOperation operation, long memoryOffset, long sector)
    {
        Assert.True(_bios.TryAllocate(operation, new MemoryRange(_memory, memoryOffset, 512), sector, out BioHandle bio));
        return bio;
    }
}
