using System.Numerics;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using DmaBufIo.Tests.Rings;

namespace DmaBufIo.Tests.Iov;

public sealed class IovRuleTests : IDisposable
{
    private readonly MemoryRegion _region = MemoryRegion.Allocate("iov", 1 << 20);

    public static TheoryData<IovKind> AllKinds => new(Iterators.Kinds);

    public static TheoryData<IovKind> CpuKinds => new(
        IovKind.UserBuffer, IovKind.Iovec, IovKind.KernelVec, IovKind.BioVec);

    public void Dispose() => _region.Dispose();

    [Fact]
    public void I1_each_kind_is_one_bit_so_that_a_test_on_several_kinds_is_one_mask_test()
    {
        IovKind seen = IovKind.None;
        foreach (IovKind kind in Iterators.Kinds)
        {
            Assert.Equal(1, BitOperations.PopCount((uint)kind));
            Assert.Equal(IovKind.None, seen & kind);
            seen |= kind;
        }

        Assert.Equal(IovKind.DmaBufMap | IovKind.DmaBufMapVec, IovKind.AnyDmaBuf);
        Assert.Equal(seen, Enum.GetValues<IovKind>().Aggregate(static (a, b) => a | b));
    }

    [Theory]
    [MemberData(nameof(AllKinds))]
    public void I1_an_iterator_is_of_its_own_kind_and_of_every_mask_that_holds_it_and_of_no_other(IovKind kind)
    {
        IovIter iter = Iterators.Make(kind, _region, 512, 512);
        Assert.Equal(kind, iter.Kind);
        foreach (IovKind other in Iterators.Kinds)
        {
            Assert.Equal(other == kind, iter.IsAny(other));
            Assert.True(iter.IsAny(other | kind));
        }

        Assert.Equal(kind is IovKind.DmaBufMap or IovKind.DmaBufMapVec, iter.IsAny(IovKind.AnyDmaBuf));
        Assert.Equal(iter.IsAny(IovKind.AnyDmaBuf), iter.Map is not null);
    }

    [Fact]
    public void I2_advancing_a_map_iterator_moves_offset_and_count_by_the_same_bytes()
    {
        IovIter iter = IovIter.ForMap(new StillMap(1 << 20), 8192, 4096, DmaDirection.ToDevice);
        Assert.Equal(Errno.Ok, iter.Advance(512));
        Assert.Equal((8704L, 3584L), (iter.Offset, iter.Count));
        Assert.Equal(new BufferRange(8704, 3584), iter.CurrentRange);
        Assert.Equal(Errno.Ok, iter.Advance(3584));
        Assert.Equal((12288L, 0L), (iter.Offset, iter.Count));
    }

    [Theory]
    [MemberData(nameof(AllKinds))]
    public void I2_an_iterator_cannot_be_advanced_past_its_count_and_a_refused_advance_moves_nothing(IovKind kind)
    {
        IovIter iter = Iterators.Make(kind, _region, 512, 512);
        iter.Advance(512);
        IovIterState before = iter.Save();
        Assert.Equal(Errno.EINVAL, iter.Advance(513));
        Assert.Equal(Errno.EINVAL, iter.Advance(-1));
        Assert.Equal(Errno.EINVAL, iter.Advance(long.MinValue));
        Assert.Equal(Errno.EINVAL, iter.Advance(long.MaxValue));
        Assert.Equal(before, iter.Save());
        Assert.Equal(Errno.Ok, iter.Advance(512));
        Assert.Equal(0, iter.Count);
    }

    [Theory]
    [MemberData(nameof(AllKinds))]
    public void I2_a_revert_never_goes_before_the_start_and_a_refused_revert_moves_nothing(IovKind kind)
    {
        IovIter iter = Iterators.Make(kind, _region, 512, 1024, 512);
        IovIterState start = iter.Save();
        iter.Advance(1600);
        IovIterState before = iter.Save();
        Assert.Equal(Errno.EINVAL, iter.Revert(1601, start));
        Assert.Equal(Errno.EINVAL, iter.Revert(-1, start));
        Assert.Equal(Errno.EINVAL, iter.Revert(long.MaxValue, start));
        Assert.Equal(before, iter.Save());
        Assert.Equal(Errno.Ok, iter.Revert(1600, start));
        Assert.Equal(start, iter.Save());
    }

    [Theory]
    [MemberData(nameof(AllKinds))]
    public void I2_a_revert_goes_back_by_exactly_its_bytes_across_pieces(IovKind kind)
    {
        IovIter iter = Iterators.Make(kind, _region, 512, 1024, 512);
        IovIterState start = iter.Save();
        iter.Advance(300);
        IovIterState there = iter.Save();
        iter.Advance(1500);
        Assert.Equal(Errno.Ok, iter.Revert(1500, start));
        Assert.Equal(there, iter.Save());
    }

    [Theory]
    [MemberData(nameof(AllKinds))]
    public void I2_a_revert_counts_from_where_it_stands_also_after_bytes_were_dropped_at_the_end(IovKind kind)
    {
        IovIter iter = Iterators.Make(kind, _region, 512, 1024, 512);
        IovIterState start = iter.Save();
        iter.Truncate(1000);
        iter.Advance(600);
        Assert.Equal(Errno.EINVAL, iter.Revert(601, start));
        Assert.Equal(Errno.Ok, iter.Revert(600, start));
        Assert.Equal(start with { Count = 1000 }, iter.Save());
    }

    [Theory]
    [MemberData(nameof(AllKinds))]
    public void I2_save_and_restore_round_trip(IovKind kind)
    {
        IovIter iter = Iterators.Make(kind, _region, 512, 1024, 512);
        iter.Advance(700);
        IovIterState saved = iter.Save();
        (int Piece, long Offset) place = Iterators.Place(iter);
        iter.Advance(1000);
        iter.Truncate(5);
        iter.Restore(saved);
        Assert.Equal(saved, iter.Save());
        Assert.Equal(place, Iterators.Place(iter));
        Assert.Equal(1348, iter.Count);
    }

    [Theory]
    [InlineData(0, 4096, 4096)]
    [InlineData(4, 4096, 4100)]
    [InlineData(4096, 512, 4608)]
    [InlineData(1, 1, 1)]
    [InlineData(12, 0, 0)]
    public void I3_the_alignment_of_a_map_iterator_comes_from_offset_and_count_alone(long offset, long count, long bits)
    {
        IovIter iter = IovIter.ForMap(new StillMap(1 << 20), offset, count, DmaDirection.FromDevice);
        Assert.Equal(bits, iter.Alignment());
        Assert.Equal(0, iter.GapAlignment());
    }

    [Fact]
    public void I3_the_alignment_of_a_vector_over_a_map_comes_from_its_ranges_and_asking_moves_nothing()
    {
        BufferRange[] ranges = [new(4096, 512), new(65540, 0), new(8200, 1024)];
        IovIter iter = IovIter.ForMapRanges(new StillMap(1 << 20), ranges, DmaDirection.FromDevice);
        Assert.Equal(4096 | 512 | 8200 | 1024, iter.Alignment());
        Assert.Equal(0, iter.GapAlignment());
        Assert.Equal(1536, iter.Count);
        iter.Advance(512);
        Assert.Equal(8200 | 1024, iter.Alignment());
    }

    [Fact]
    public void I3_application_memory_answers_unknown_and_regions_answer_their_offsets()
    {
        Assert.Equal(0, IovIter.ForBuffer(new byte[3], DmaDirection.FromDevice).Alignment());
        Assert.Equal(0, Iterators.Make(IovKind.Iovec, _region, 3, 5).Alignment());
        Assert.Equal(0, IovIter.ForDiscard(3).Alignment());
        MemoryRange[] ranges = [new(_region, 4096, 512), new(_region, 16384, 1024)];
        IovIter pages = IovIter.ForBioVec(ranges, DmaDirection.FromDevice);
        Assert.Equal(4096 | 512 | 16384 | 1024, pages.Alignment());
        Assert.Equal(4608 | 16384, pages.GapAlignment());
    }

    [Theory]
    [InlineData(IovKind.DmaBufMap)]
    [InlineData(IovKind.DmaBufMapVec)]
    public void I4_copying_by_CPU_to_or_from_a_map_is_refused_and_moves_nothing(IovKind kind)
    {
        IovIter iter = Iterators.Make(kind, _region, 512, 512);
        IovIterState before = iter.Save();
        byte[] bytes = [1, 2, 3, 4];
        Assert.Equal(Errno.EOPNOTSUPP, iter.CopyTo(bytes, out int to));
        Assert.Equal(Errno.EOPNOTSUPP, iter.CopyFrom(bytes, out int from));
        Assert.Equal((0, 0), (to, from));
        Assert.Equal(before, iter.Save());
        Assert.Equal([1, 2, 3, 4], bytes);
    }

    [Theory]
    [MemberData(nameof(CpuKinds))]
    public void I4_the_other_kinds_are_copied_to_and_from_across_their_pieces(IovKind kind)
    {
        IovIter iter = Iterators.Make(kind, _region, 100, 0, 300, 112);
        IovIterState start = iter.Save();
        byte[] source = new byte[600];
        new Random(4).NextBytes(source);
        Assert.Equal(Errno.Ok, iter.CopyTo(source.AsSpan(0, 250), out int first));
        Assert.Equal(Errno.Ok, iter.CopyTo(source.AsSpan(250), out int second));
        Assert.Equal((250, 262, 0L), (first, second, iter.Count));
        iter.Restore(start);
        byte[] back = new byte[600];
        Assert.Equal(Errno.Ok, iter.CopyFrom(back, out int copied));
        Assert.Equal(512, copied);
        Assert.True(back.AsSpan(0, 512).SequenceEqual(source.AsSpan(0, 512)));
    }

    [Fact]
    public void I4_discard_takes_bytes_and_has_none_to_give()
    {
        IovIter iter = IovIter.ForDiscard(10);
        Assert.Equal(Errno.Ok, iter.CopyTo(new byte[7], out int taken));
        Assert.Equal((7, 3L), (taken, iter.Count));
        Assert.Equal(Errno.EOPNOTSUPP, iter.CopyFrom(new byte[1], out _));
    }

    [Fact]
    public void I5_a_map_is_used_only_with_the_operations_of_the_file_whose_token_made_it()
    {
        using var stage = new Stage();
        var other = new BlockDeviceFile(stage.Device);
        Assert.True(stage.Ring.TryReadFixed(other, 0, 0, 4096, 0, 1));
        Assert.Equal(Errno.EBADF, Assert.Single(stage.Run()).Status);
        Assert.Equal(0, stage.Token.MapsMade);
        other.Put();
    }

    [Fact]
    public void I6_a_vector_over_a_map_goes_through_its_ranges_in_order_and_skips_empty_ones()
    {
        BufferRange[] ranges = [new(0, 0), new(8192, 1024), new(4, 0), new(512, 512), new(0, 0)];
        IovIter iter = IovIter.ForMapRanges(new StillMap(1 << 20), ranges, DmaDirection.FromDevice);
        var seen = new List<BufferRange>();
        while (iter.Count > 0)
        {
            seen.Add(iter.CurrentRange);
            iter.Advance(iter.CurrentRange.Length);
        }

        Assert.Equal([new BufferRange(8192, 1024), new BufferRange(512, 512)], seen);
    }

    [Fact]
    public void I6_a_vector_request_is_one_bio_per_range_and_one_map_reference_for_all_of_them()
    {
        using var stage = new Stage();
        var bios = new List<DmaBufIo.Block.Bio>();
        stage.Device.OnSubmit = bios.Add;
        stage.Device.Hold = true;
        new Random(6).NextBytes(stage.Device.Store);
        BufferRange[] ranges = [new(65536, 1024), new(0, 512), new(4096, 2560)];
        Assert.True(stage.Ring.TryReadFixedVector(stage.File, 0, ranges, 8192, 1));
        stage.Submit();
        Assert.Equal(ranges, bios.Select(static b => new BufferRange(b.Offset, b.Size)));
        Assert.Equal([16L, 18L, 19L], bios.Select(static b => b.Sector));

        // The device has finished, nobody has reaped: the references are counted by the invalidation, which then reaps them itself.
        stage.Device.Hold = false;
        stage.Device.Finish();
        Assert.Equal(1, stage.Move().Users);
        Assert.Equal(4096, Assert.Single(stage.Reap(1)).Bytes);
        int at = 8192;
        foreach (BufferRange range in ranges)
        {
            Assert.True(
                stage.Exporter.Region.Span(range.Offset, (int)range.Length).SequenceEqual(stage.Device.Store.Slice(at, (int)range.Length)));
            at += (int)range.Length;
        }
    }
}
