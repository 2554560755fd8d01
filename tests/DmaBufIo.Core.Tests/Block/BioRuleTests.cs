using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using DmaBufIo.Tests.Iov;

namespace DmaBufIo.Tests.Block;

public sealed class BioRuleTests : IDisposable
{
    private readonly MemoryRegion _region = MemoryRegion.Allocate("pages", 65536);
    private readonly StillMap _map = new(1 << 20);
    private readonly BioPool _bios = new(4);

    public void Dispose()
    {
        _bios.Dispose();
        _region.Dispose();
    }

    [Fact]
    public void B1_a_bio_is_backed_by_pages_or_by_a_map_or_by_nothing_and_never_by_both()
    {
        Assert.True(_bios.TryAllocate(BioOperation.Read, _map, 4096, 512, 1, out BioHandle map));
        Assert.True(_bios.TryAllocate(BioOperation.Read, new MemoryRange(_region, 4096, 512), 1, out BioHandle pages));
        Assert.True(_bios.TryAllocateFlush(out BioHandle none));
        AssertBacking(map, BioBacking.Map, _map, null);
        AssertBacking(pages, BioBacking.Pages, null, _region);
        AssertBacking(none, BioBacking.None, null, null);
    }

    [Fact]
    public void B1_a_place_of_the_pool_that_is_used_again_keeps_nothing_of_its_former_backing()
    {
        Assert.True(_bios.TryAllocate(BioOperation.Write, _map, 4096, 512, 1, out BioHandle first));
        _bios[first].Cookie = 5;
        _bios.Release(first);
        Assert.True(_bios.TryAllocate(BioOperation.Read, new MemoryRange(_region, 0, 512), 3, out BioHandle second));
        Assert.Equal(first, second);
        AssertBacking(second, BioBacking.Pages, null, _region);
        Assert.Equal((0L, BioOperation.Read), (_bios[second].Cookie, _bios[second].Operation));
    }

    [Fact]
    public void T9_forgetting_clears_the_backing_that_released_bios_have_left_behind_and_no_others()
    {
        Assert.True(_bios.TryAllocate(BioOperation.Write, _map, 4096, 512, 1, out BioHandle used));
        Assert.True(_bios.TryAllocate(BioOperation.Write, _map, 4096, 512, 1, out BioHandle released));
        _bios.Release(released);
        _bios.Forget();
        Assert.Null(_bios.BackingOf(released));
        Assert.Same(_map, _bios.BackingOf(used));
    }

    [Fact]
    public void B1_a_request_never_mixes_the_two_kinds_and_map_backed_bios_are_never_merged()
    {
        using var bench = new FileBench(new QueueLimits(512));

        // Neighbours in the buffer and on the device: what a block layer that merges would merge.
        BufferRange[] ranges = [new(0, 512), new(512, 512), new(1024, 512)];
        IovIter maps = IovIter.ForMapRanges(_map, ranges, DmaDirection.FromDevice);
        IoRequest request = bench.Request(0);
        Assert.Equal(Errno.Ok, bench.Queue.ReadIter(ref request, ref maps));
        MemoryRange[] memory = [new(_region, 0, 512), new(_region, 512, 512)];
        IovIter pages = IovIter.ForBioVec(memory, DmaDirection.FromDevice);
        IoRequest other = bench.Request(1536);
        Assert.Equal(Errno.Ok, bench.Queue.ReadIter(ref other, ref pages));
        Assert.Equal((3, 2), (request.Pending, other.Pending));
        Assert.All(bench.Device.Seen.Take(3), s => Assert.Equal((BioBacking.Map, _map, null), (s.Bio.Backing, s.Map, s.Region)));
        Assert.All(bench.Device.Seen.Skip(3), s => Assert.Equal((BioBacking.Pages, null, _region), (s.Bio.Backing, s.Map, s.Region)));
        Assert.Equal(ranges, bench.Device.Seen.Take(3).Select(static s => new BufferRange(s.Bio.Offset, s.Bio.Size)));
        Assert.Equal([0L, 1, 2, 3, 4], bench.Device.Seen.Select(static s => s.Bio.Sector));
    }

    [Fact]
    public void B2_a_clone_copies_operation_range_backing_and_its_kind_and_is_nobodys_yet()
    {
        Assert.True(_bios.TryAllocate(BioOperation.Write, _map, 4096, 1536, 9, out BioHandle map));
        _bios[map].Owner = 3;
        _bios[map].Cookie = 77;
        _bios[map].Status = Errno.EIO;
        Assert.True(_bios.TryClone(map, out BioHandle copy));
        Assert.NotEqual(map, copy);
        Assert.Equal(
            new Bio { Operation = BioOperation.Write, Backing = BioBacking.Map, Offset = 4096, Size = 1536, Sector = 9 },
            _bios[copy] with { Status = Errno.Ok });
        AssertBacking(copy, BioBacking.Map, _map, null);
        Assert.True(_bios.TryAllocate(BioOperation.Read, new MemoryRange(_region, 512, 512), 1, out BioHandle pages));
        Assert.True(_bios.TryClone(pages, out BioHandle second));
        AssertBacking(second, BioBacking.Pages, null, _region);
        Assert.False(_bios.TryClone(map, out _));
        Assert.Equal(0, _bios.Free);
    }

    [Fact]
    public void B2_a_clone_goes_its_own_way()
    {
        Assert.True(_bios.TryAllocate(BioOperation.Read, _map, 4096, 1536, 9, out BioHandle bio));
        Assert.True(_bios.TryClone(bio, out BioHandle copy));
        _bios[copy].Advance(512);
        _bios.Release(bio);
        AssertBacking(copy, BioBacking.Map, _map, null);
        Assert.Equal((4608L, 1024L, 10L), (_bios[copy].Offset, _bios[copy].Size, _bios[copy].Sector));
    }

    [Theory]
    [InlineData(BioBacking.Map)]
    [InlineData(BioBacking.Pages)]
    public void B2_advance_moves_sector_offset_and_size_the_same_way_for_every_kind_and_rewind_undoes_it(BioBacking backing)
    {
        var bio = new Bio { Backing = backing, Offset = 4096, Size = 1L << 33, Sector = 5 };
        Bio before = bio;
        bio.Advance(3L << 31);
        Assert.Equal((4096 + (3L << 31), 1L << 31, 5 + (3L << 22)), (bio.Offset, bio.Size, bio.Sector));
        bio.Rewind(3L << 31);
        Assert.Equal(before, bio);
        bio.Advance(512);
        bio.Rewind(512);
        Assert.Equal(before, bio);
    }

    private void AssertBacking(BioHandle bio, BioBacking backing, StillMap? map, MemoryRegion? region)
    {
        Assert.Equal(backing, _bios[bio].Backing);
        Assert.Same(map, _bios.MapOf(bio));
        Assert.Same(region, _bios.RegionOf(bio));
    }
}
