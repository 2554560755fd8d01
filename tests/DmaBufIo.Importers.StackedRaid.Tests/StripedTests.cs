using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Striped;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Rings;
using FsCheck;
using FsCheck.Fluent;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>Sets without redundancy against a plain byte array.</summary>
public sealed class StripedTests
{
    private const long DiskSize = 1 << 20;

    [Fact]
    public void Any_requests_on_any_nesting_of_striped_sets_leave_what_a_byte_array_says()
    {
        Gen<int> layouts = Gen.Choose(0, 4);
        Gen<(int Kind, int Block, int Blocks, int Memory)> step =
            from kind in Gen.Choose(0, 9)
            from block in Gen.Choose(0, 8000)
            from blocks in Gen.Choose(1, 300)
            from memory in Gen.Choose(0, 500)
            select (kind, block, blocks, memory);
        Gen<(int Kind, int Block, int Blocks, int Memory)[]> steps = step.ArrayOf();
        Check.One(
            Config.QuickThrowOnFailure.WithMaxTest(120).WithEndSize(60),
            Prop.ForAll(Gen.Zip(layouts, steps).ToArbitrary(), static t => Walk(t.Item1, t.Item2)));
    }

    [Fact]
    public void R4_requests_whose_pieces_all_lie_on_one_member_come_back_all()
    {
        SetRig.With(static rig =>
        {
            // A chunk is 8 times what a member takes at once.
            var options = new Pci.Model.NvmeModelOptions { OwnThread = false, SizeBytes = DiskSize, Mdts = 1 };
            BlockDevice set = rig.Set(new Raid0Factory(), "64K", [.. Enumerable.Range(0, 4).Select(_ => rig.Disk(options))]);
            using SetRing ring = rig.Open(set, entries: 8);
            Assert.Equal(32 << 10, set.Limits.MaxBytes);
            for (int round = 0; round < 10; round++)
            {
                for (int i = 0; i < 8; i++)
                    Assert.True(ring.Ring.TryReadFixed(ring.File, 0, i * 32768, 32768, i * 4 * 65536, (ulong)i));
                Assert.All(ring.Run(), static c => Assert.Equal((Errno.Ok, 32768L), (c.Status, c.Bytes)));
            }
        });
    }

    [Fact]
    public void B3_chunks_that_are_no_whole_number_of_what_members_take_are_cut_right()
    {
        SetRig.With(static rig =>
        {
            // Each half takes three chunks of 64 KiB at once; a chunk of the whole has four.
            var half = new Raid0Factory();
            BlockDevice set = rig.Set(half, "256K", rig.Set(half, "64K", rig.Disks(3, DiskSize)), rig.Set(half, "64K", rig.Disks(3, DiskSize)));
            using SetRing ring = rig.Open(set, buffer: 4 << 20, entries: 8);
            const int Length = 384 << 10;
            new Random(1).NextBytes(ring.Memory(0, 4 << 20));
            byte[] written = ring.Memory(0, 8 * Length).ToArray();
            for (int i = 0; i < 8; i++)
                Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, i * Length, Length, (224 << 10) + (i * Length), (ulong)i));
            Assert.All(ring.Run(), static c => Assert.Equal((Errno.Ok, (long)Length), (c.Status, c.Bytes)));
            ring.Memory(0, 4 << 20).Clear();
            for (int i = 0; i < 8; i++)
                Assert.True(ring.Ring.TryReadFixed(ring.File, 0, i * Length, Length, (224 << 10) + (i * Length), (ulong)i));
            Assert.All(ring.Run(), static c => Assert.Equal((Errno.Ok, (long)Length), (c.Status, c.Bytes)));
            Assert.True(ring.Memory(0, 8 * Length).SequenceEqual(written));
        });
    }

    private static BlockDevice Make(SetRig rig, int layout)
    {
        var raid0 = new Raid0Factory();
        var linear = new LinearFactory();
        return layout switch
        {
            0 => rig.Set(raid0, "64K", rig.Disks(4, DiskSize)),
            1 => rig.Set(linear, null, rig.Disk(DiskSize), rig.Disk(300 * 1024), rig.Disk(512 * 7)),
            2 => rig.Set(raid0, "4K", rig.Set(raid0, "16K", rig.Disks(3, DiskSize)), rig.Set(linear, null, rig.Disks(2, DiskSize))),
            3 => rig.Set(linear, null, rig.Set(raid0, "8K", rig.Disks(2, DiskSize)), rig.Disk(DiskSize)),
            _ => rig.Set(raid0, "1M", rig.Disks(3, DiskSize)),
        };
    }

    private static void Walk(int layout, (int Kind, int Block, int Blocks, int Memory)[] steps) => SetRig.With(rig =>
    {
        BlockDevice set = Make(rig, layout);
        byte[] model = new byte[set.Capacity];
        var random = new Random(steps.Length);
        using SetRing ring = rig.Open(set);
        foreach ((int kind, int block, int blocks, int memory) in steps)
        {
            long offset = block * 512L % set.Capacity;
            int length = (int)Math.Min(blocks * 512, set.Capacity - offset);
            Span<byte> buffer = ring.Memory(memory * 512, length);
            switch (kind)
            {
                case 0:
                    ring.Exporter.Move(TestContext.Current.CancellationToken);
                    break;
                case < 5:
                    random.NextBytes(buffer);
                    buffer.CopyTo(model.AsSpan((int)offset));
                    Assert.Equal(new RingCompletion(1, Errno.Ok, length), ring.Write(memory * 512, length, offset));
                    break;
                default:
                    buffer.Fill(0xEE);
                    Assert.Equal(new RingCompletion(1, Errno.Ok, length), ring.Read(memory * 512, length, offset));
                    Assert.True(ring.Memory(memory * 512, length).SequenceEqual(model.AsSpan((int)offset, length)), $"read of {offset}+{length}");
                    break;
            }
        }

        Assert.Equal(Errno.Ok, ring.Flush().Status);
    });

    [Theory]
    [InlineData(3, 4096)]
    [InlineData(4, 65536)]
    public void A_chunk_lies_on_one_member_and_the_next_on_the_next(int members, long chunk)
    {
        var layout = new ChunkLayout(members, chunk, (chunk * 10) + 512);
        Assert.Equal(chunk * 10 * members, layout.Capacity);
        var seen = new HashSet<(int, long)>();
        for (long offset = 0; offset < layout.Capacity; offset += 512)
        {
            long together = layout.Find(offset, out int member, out long place);
            Assert.Equal(chunk - (offset % chunk), together);
            Assert.Equal(((int)(offset / chunk % members), (offset / chunk / members * chunk) + (offset % chunk)), (member, place));
            Assert.True(seen.Add((member, place)));
        }

        // Beyond what 32 bits of chunks hold.
        var large = new ChunkLayout(members, 4096, long.MaxValue / 16);
        long far = (1L << 32) * 4096 * 5 + 512;
        Assert.Equal(4096 - 512, large.Find(far, out int on, out long at));
        Assert.Equal(((int)(far / 4096 % members), (far / 4096 / members * 4096) + 512), (on, at));
    }

    [Fact]
    public void B3_limits_stack_the_strictest_wins_and_a_set_takes_as_much_as_its_members_together() => SetRig.With(static rig =>
    {
        BlockDevice small = rig.Disk(DiskSize, new Pci.Model.NvmeModelOptions { OwnThread = false, Mdts = 2 });
        BlockDevice coarse = rig.Disk(DiskSize, new Pci.Model.NvmeModelOptions { OwnThread = false, LbaSize = 4096 });
        BlockDevice set = rig.Set(new Raid0Factory(), "64K", small, coarse);
        Assert.Equal(4096, set.Limits.LogicalBlockSize);
        Assert.Equal(16384 * 2, set.Limits.MaxBytes);
        using SetRing ring = rig.Open(set);
        Random.Shared.NextBytes(ring.Memory(0, 512 << 10));
        byte[] data = ring.Memory(0, 512 << 10).ToArray();
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512 << 10), ring.Write(0, 512 << 10, 4096));
        ring.Memory(0, 512 << 10).Clear();
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512 << 10), ring.Read(0, 512 << 10, 4096));
        Assert.True(ring.Memory(0, 512 << 10).SequenceEqual(data));
        Assert.Equal(Errno.EINVAL, ring.Read(0, 512, 0).Status);
    });

    [Fact]
    public void T16_one_request_over_all_members_holds_one_reference_and_one_map_is_made_for_them() => SetRig.With(static rig =>
    {
        BlockDevice set = rig.Set(new Raid0Factory(), "4K", rig.Disks(4, DiskSize));
        using SetRing ring = rig.Open(set);
        Assert.Equal(Errno.Ok, ring.Write(0, 64 << 10, 0).Status);
        Assert.Equal(Errno.Ok, ring.Write(0, 64 << 10, 0).Status);
        Assert.Equal((1L, 1), (ring.Ring.TokenAt(0)!.MapsMade, ring.Ring.TokenAt(0)!.Maps));
        ring.Exporter.Move(TestContext.Current.CancellationToken);
        Assert.Equal(Errno.Ok, ring.Write(0, 64 << 10, 0).Status);
        Assert.Equal(2L, ring.Ring.TokenAt(0)!.MapsMade);
    });

    [Fact]
    public void T11_a_set_that_has_lost_a_member_it_needs_is_gone() => SetRig.With(static rig =>
    {
        BlockDevice set = rig.Set(new Raid0Factory(), "4K", rig.Disks(3, DiskSize));
        using SetRing ring = rig.Open(set);
        Assert.Equal(Errno.Ok, ring.Write(0, 64 << 10, 0).Status);
        rig.Bindings[1].Dispose();
        Assert.True(set.IsRemoved);
        Assert.Equal(Errno.ENODEV, ring.Write(0, 64 << 10, 0).Status);
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => ring.File.OpenToken(ring.Exporter.Buffer, Dma.DmaDirection.ToDevice));
        Assert.Equal(Errno.ENODEV, refused.Errno);
        Assert.Contains("member 1 (nvme1n1)", refused.Message, StringComparison.Ordinal);
    });

    [Fact]
    public void T11_a_reset_of_a_member_ends_what_it_had_and_the_next_request_makes_a_new_map() => SetRig.With(static rig =>
    {
        BlockDevice set = rig.Set(new Raid0Factory(), "4K", rig.Disks(3, DiskSize));
        using SetRing ring = rig.Open(set);
        Assert.Equal(Errno.Ok, ring.Write(0, 64 << 10, 0).Status);
        rig.Bindings[2].Reset();
        Assert.Equal(Errno.Ok, ring.Write(0, 64 << 10, 0).Status);
        Assert.Equal(2L, ring.Ring.TokenAt(0)!.MapsMade);
    });
}
