using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Striped;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>Mirrors: what their members hold, and what happens when one is lost, reset, or comes back.</summary>
public sealed class MirrorTests
{
    private const long DiskSize = 1 << 20;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void A_new_mirror_brings_its_members_into_step_and_writes_go_to_all() => SetRig.With(static rig =>
    {
        BlockDevice[] disks = rig.Disks(3, DiskSize);
        Scribble(rig, disks[0], 0, 256 << 10);
        Scribble(rig, disks[1], 0, 256 << 10);
        BlockDevice set = Mirror(rig, disks);
        Assert.Equal(DiskSize - (64 << 10), set.Capacity);
        using (SetRing ring = rig.Open(set))
        {
            Random.Shared.NextBytes(ring.Memory(0, 300 << 10));
            byte[] data = ring.Memory(0, 300 << 10).ToArray();
            Assert.Equal(new RingCompletion(1, Errno.Ok, 300 << 10), ring.Write(0, 300 << 10, 128 << 10));
            Assert.Equal(Errno.Ok, ring.Flush().Status);
            Assert.Equal(Errno.Ok, ((IRedundantDevice)set).WaitInSync(Token));
            Assert.True(((IRedundantDevice)set).IsInSync);
            foreach (BlockDevice disk in disks)
                Assert.Equal(data, Contents(rig, disk).AsSpan(128 << 10, 300 << 10).ToArray());
        }

        AssertSame(rig, set, disks);
    });

    [Fact]
    public void Reads_are_spread_over_the_members() => SetRig.With(static rig =>
    {
        BlockDevice[] disks = rig.Disks(2, DiskSize);
        BlockDevice set = Mirror(rig, disks);
        Assert.Equal(Errno.Ok, ((IRedundantDevice)set).WaitInSync(Token));
        long[] before = [.. Enumerable.Range(0, 2).Select(rig.BytesRead)];
        using SetRing ring = rig.Open(set);
        for (int i = 0; i < 64; i++)
            Assert.Equal(Errno.Ok, ring.Read(0, 4096, i * 4096).Status);
        long[] after = [.. Enumerable.Range(0, 2).Select(rig.BytesRead)];
        Assert.All(after.Zip(before, static (a, b) => a - b), static n => Assert.InRange(n, 24 * 4096, 40 * 4096));
    });

    [Fact]
    public void A_member_that_is_removed_is_dropped_and_no_request_fails() => SetRig.With(static rig =>
    {
        BlockDevice[] disks = rig.Disks(2, DiskSize);
        BlockDevice set = Mirror(rig, disks);
        var redundant = (IRedundantDevice)set;
        using SetRing ring = rig.Open(set);
        Fill(ring, 7);
        Assert.Equal(Errno.Ok, ring.Write(0, 512 << 10, 0).Status);
        Assert.Equal(Errno.Ok, redundant.WaitInSync(Token));
        rig.Bindings[0].Dispose();
        Assert.Equal(Errno.Ok, ring.Read(512 << 10, 512 << 10, 0).Status);
        Assert.True(ring.Memory(512 << 10, 512 << 10).SequenceEqual(ring.Memory(0, 512 << 10)));
        Fill(ring, 8);
        Assert.Equal(Errno.Ok, ring.Write(0, 512 << 10, 64 << 10).Status);
        Assert.Equal(Errno.Ok, ring.Flush().Status);
        Assert.False(redundant.IsInSync);
        Assert.Equal(["Missing", "InSync"], redundant.Members.Select(static m => m.State));
        ring.Exporter.Move(Token);
        Assert.Equal(Errno.Ok, ring.Read(512 << 10, 512 << 10, 64 << 10).Status);
        Assert.True(ring.Memory(512 << 10, 512 << 10).SequenceEqual(ring.Memory(0, 512 << 10)));
        Assert.False(set.IsRemoved);
    });

    [Fact]
    public void The_last_member_is_kept_and_its_errors_are_the_requests() => SetRig.With(static rig =>
    {
        BlockDevice[] disks = rig.Disks(2, DiskSize);
        BlockDevice set = Mirror(rig, disks);
        using SetRing ring = rig.Open(set);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
        rig.Bindings[0].Dispose();
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
        rig.Bindings[1].Dispose();
        Assert.NotEqual(Errno.Ok, ring.Write(0, 4096, 0).Status);
        Assert.NotEqual(Errno.Ok, ring.Read(0, 4096, 0).Status);
    });

    [Fact]
    public void A_replacement_gets_everything_while_writes_go_on() => SetRig.With(static rig =>
    {
        BlockDevice[] disks = rig.Disks(2, DiskSize);
        BlockDevice set = Mirror(rig, disks);
        var redundant = (IRedundantDevice)set;
        using (SetRing ring = rig.Open(set))
        {
            Fill(ring, 3);
            Assert.Equal(Errno.Ok, ring.Write(0, 900 << 10, 0).Status);
            rig.Bindings[0].Dispose();
            Fill(ring, 4);
            Assert.Equal(Errno.Ok, ring.Write(0, 100 << 10, 200 << 10).Status);
            BlockDevice fresh = rig.Disk(DiskSize);
            redundant.Replace(0, fresh);
            for (int i = 0; i < 100; i++)
            {
                Fill(ring, 5 + i);
                Assert.Equal(Errno.Ok, ring.Write(0, 32 << 10, i * 8192).Status);
                if (i % 10 == 0)
                    ring.Exporter.Move(Token);
            }

            disks[0] = fresh;
            Assert.Equal(Errno.Ok, ring.Flush().Status);
            Assert.Equal(Errno.Ok, redundant.WaitInSync(Token));
        }

        AssertSame(rig, set, disks);
    });

    [Fact]
    public void A_reset_of_both_members_under_load_fails_no_request() => SetRig.With(static rig =>
    {
        BlockDevice[] disks = [rig.Disk(DiskSize, new Pci.Model.NvmeModelOptions()), rig.Disk(DiskSize, new Pci.Model.NvmeModelOptions())];
        BlockDevice set = Mirror(rig, disks);
        using (SetRing ring = rig.Open(set))
        {
            bool stop = false;
            var resetter = new Thread(() =>
            {
                for (int i = 0; i < 50; i++)
                {
                    rig.Bindings[0].Reset();
                    rig.Bindings[1].Reset();
                }

                Volatile.Write(ref stop, true);
            });
            resetter.Start();
            for (int i = 0; !Volatile.Read(ref stop); i++)
            {
                Fill(ring, i);
                Assert.Equal(Errno.Ok, ring.Write(0, 64 << 10, i % 14 * (64 << 10)).Status);
                Assert.Equal(Errno.Ok, ring.Read(64 << 10, 64 << 10, i % 14 * (64 << 10)).Status);
                Assert.True(ring.Memory(64 << 10, 64 << 10).SequenceEqual(ring.Memory(0, 64 << 10)));
            }

            resetter.Join();
        }

        AssertSame(rig, set, disks);
    });

    [Fact]
    public void Members_of_another_set_in_another_order_or_gone_on_apart_are_refused() => SetRig.With(static rig =>
    {
        BlockDevice[] disks = rig.Disks(4, DiskSize);
        Once(rig, disks[0], disks[1]);
        Once(rig, disks[2], disks[3]);
        Refused(Errno.EINVAL, "belongs to another set", () => Mirror(rig, disks[0], disks[3]));
        Refused(Errno.EINVAL, "in their order", () => Mirror(rig, disks[1], disks[0]));
        Refused(Errno.EINVAL, "has 2 members, and 3 are given", () => Mirror(rig, disks[0], disks[1], disks[2]));

        // Each goes on without the other.
        BlockDevice[] spare = rig.Disks(2, DiskSize);
        using (MirrorSet set = PuppetRig.Assemble("a", [disks[0], disks[1]]))
        {
            Assert.Equal(Errno.Ok, set.WaitInSync(Token));
            byte[] before = Tail(rig, disks[1]);
            set.Fail(1);
            WriteTail(rig, spare[1], before);
        }

        using (MirrorSet set = PuppetRig.Assemble("b", [spare[0], spare[1]], degraded: true))
        {
            Assert.Equal(["Rebuilding", "InSync"], set.Members.Select(static m => m.State));
            Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        }
    });

    [Fact]
    public void One_file_is_written_by_one_controller_alone_and_read_by_any_number() => SetRig.With(static rig =>
    {
        string path = Path.GetTempFileName();
        try
        {
            var write = new Pci.Model.NvmeModelOptions { Path = path, SizeBytes = DiskSize, OwnThread = false };
            BlockDevice first = rig.Disk(write);
            foreach (bool readOnly in new[] { false, true })
                Refused(Errno.EBUSY, path, () => rig.Disk(write with { ReadOnly = readOnly }));
            rig.BindingOf(first).Dispose();
            rig.Disk(write with { ReadOnly = true });
            rig.Disk(write with { ReadOnly = true });
            Refused(Errno.EBUSY, path, () => rig.Disk(write));
        }
        finally
        {
            File.Delete(path);
        }
    });

    private static void Once(SetRig rig, params BlockDevice[] disks)
    {
        using MirrorSet set = PuppetRig.Assemble("once", disks);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
    }

    private static void Refused(Errno errno, string text, Action action)
    {
        DmaBufIoException e = Assert.Throws<DmaBufIoException>(action);
        Assert.Equal(errno, e.Errno);
        Assert.Contains(text, e.Message, StringComparison.Ordinal);
    }

    private static BlockDevice Mirror(SetRig rig, params BlockDevice[] disks) => rig.Set(new Raid1Factory(), null, disks);

    private static void Fill(SetRing ring, int seed) => new Random(seed).NextBytes(ring.Memory(0, 512 << 10));

    private static void Scribble(SetRig rig, BlockDevice disk, long offset, int length)
    {
        using SetRing ring = rig.Open(disk);
        Random.Shared.NextBytes(ring.Memory(0, length));
        Assert.Equal(Errno.Ok, ring.Write(0, length, offset).Status);
    }

    private static byte[] Contents(SetRig rig, BlockDevice disk)
    {
        using SetRing ring = rig.Open(disk, DiskSize);
        Assert.Equal(new RingCompletion(1, Errno.Ok, disk.Capacity), ring.Read(0, disk.Capacity, 0));
        return ring.Memory(0, (int)disk.Capacity).ToArray();
    }

    private static byte[] Tail(SetRig rig, BlockDevice disk) => Contents(rig, disk)[(int)(DiskSize - (64 << 10))..];

    private static void WriteTail(SetRig rig, BlockDevice disk, byte[] tail)
    {
        using SetRing ring = rig.Open(disk);
        tail.CopyTo(ring.Memory(0, tail.Length));
        Assert.Equal(Errno.Ok, ring.Write(0, tail.Length, DiskSize - tail.Length).Status);
    }

    private static void AssertSame(SetRig rig, BlockDevice set, BlockDevice[] disks)
    {
        byte[] first = Contents(rig, disks[0]);
        foreach (BlockDevice disk in disks.AsSpan(1))
            Assert.True(Contents(rig, disk).AsSpan(0, (int)set.Capacity).SequenceEqual(first.AsSpan(0, (int)set.Capacity)), $"{disk.Name} differs");
    }
}
