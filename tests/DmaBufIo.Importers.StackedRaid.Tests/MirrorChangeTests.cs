using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Pci.Model;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>Members that change while requests are under way.</summary>
public sealed class MirrorChangeTests
{
    private const int Region = 64 << 10;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void A_map_that_was_being_made_while_a_member_was_replaced_does_not_leave_the_new_one_out()
    {
        using var rig = new PuppetRig(3);
        using MirrorSet set = PuppetRig.Assemble("two", rig.Members[..2]);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        using var ring = new SetRing(set, 1 << 20, 8);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
        set.Fail(0);

        // The next map is made over the one member that is there. While it is being made, another one joins.
        Thread? joining = null;
        rig.Members[1].InMap = () =>
        {
            rig.Members[1].InMap = null;
            joining = new Thread(() => set.Replace(0, rig.Members[2]));
            joining.Start();
            while (set.Members[0].State == "Missing")
                Thread.Yield();
        };
        ring.Exporter.Move(Token);
        var completions = new RingCompletion[1];
        ring.Memory(0, 4096).Fill(3);
        Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 4096, 8192, 1));
        ring.Ring.Submit(Token);
        while (ring.Ring.Reap(completions) == 0)
            Thread.Yield();
        Assert.Equal(Errno.Ok, completions[0].Status);
        Assert.NotNull(joining);
        joining.Join();

        // From here on all have it, and the member that came is not dropped for want of a map.
        ring.Memory(0, 4096).Fill(4);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 4096).Status);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        Assert.Equal(["InSync", "InSync"], set.Members.Select(static m => m.State));
        Assert.True(rig.Members[2].Store[..(int)set.Capacity].SequenceEqual(rig.Members[1].Store[..(int)set.Capacity]));
    }

    [Fact]
    public void When_each_of_two_rings_has_lost_another_one_of_the_last_two_one_is_kept_and_no_write_waits_for_ever()
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        using var first = new SetRing(set, 1 << 20, 8);
        using var second = new SetRing(set, 1 << 20, 8);
        Assert.Equal(Errno.Ok, first.Write(0, 4096, 0).Status);
        Assert.Equal(Errno.Ok, second.Write(0, 4096, Region).Status);

        // One write fails on the first member only, the other on the second only; the worker hears of both at once.
        foreach (PuppetBlockDevice member in rig.Members)
            member.Hold = true;
        Assert.True(first.Ring.TryWriteFixed(first.File, 0, 0, 4096, 0, 1));
        Assert.True(second.Ring.TryWriteFixed(second.File, 0, 0, 4096, Region, 1));
        first.Ring.Submit(Token);
        second.Ring.Submit(Token);
        Assert.Equal([2, 2], rig.Members.Select(static m => m.Held));
        rig.Members[0].FailWith = Errno.EIO;
        Assert.Equal(1, rig.Members[0].Finish(1));
        rig.Members[0].FailWith = Errno.Ok;
        Assert.Equal(1, rig.Members[0].Finish());
        Assert.Equal(1, rig.Members[1].Finish(1));
        rig.Members[1].FailWith = Errno.EIO;
        Assert.Equal(1, rig.Members[1].Finish());
        rig.Members[1].FailWith = Errno.Ok;
        var completions = new RingCompletion[1];
        Thread? worker = null;
        rig.Members[0].OnSubmit = rig.Members[1].OnSubmit = _ => worker = Thread.CurrentThread; // metadata only: both writes are out
        first.Ring.Reap([]);
        second.Ring.Reap([]);
        foreach (PuppetBlockDevice member in rig.Members)
        {
            member.Hold = false;
            member.Finish(); // the worker may have begun
        }

        var ends = new List<Errno>();
        foreach (SetRing ring in new[] { first, second })
        {
            while (ring.Ring.Reap(completions) == 0)
                Thread.Yield();
            ends.Add(completions[0].Status);
        }

        // Whoever came first is gone, and what the other one had refused is nowhere.
        Assert.Equal([Errno.Ok, Errno.EIO], ends.OrderByDescending(static e => e == Errno.Ok));
        Assert.Equal(["InSync", "Missing"], set.Members.Select(static m => m.State).Order());
        Assert.NotEqual(Thread.CurrentThread, worker);
        rig.Members[0].OnSubmit = rig.Members[1].OnSubmit = null;
        Assert.Equal(Errno.Ok, first.Write(0, 4096, 0).Status);
        Assert.Equal(Errno.Ok, second.Write(0, 4096, Region).Status);
    }

    [Fact]
    public void A_write_that_fails_on_a_member_after_that_was_replaced_ends_well_and_the_new_one_gets_it()
    {
        using var rig = new PuppetRig(3);
        using MirrorSet set = PuppetRig.Assemble("two", rig.Members[..2]);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        using var ring = new SetRing(set, 1 << 20, 8);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
        PuppetBlockDevice old = rig.Members[1];
        old.OnSubmit = bio => old.Hold |= bio.Operation == BioOperation.Write && bio.Sector == 0;
        ring.Memory(0, 4096).Fill(9);
        Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 4096, 0, 1));
        ring.Ring.Submit(Token);
        Assert.Equal(1, old.Held);
        set.Fail(1);

        // Taking the new one in waits for the map, and with it for this write.
        var joining = new Thread(() => set.Replace(1, rig.Members[2]));
        joining.Start();
        while (set.Members[1].State == "Missing")
            Thread.Yield();
        old.FailWith = Errno.EIO;
        old.Hold = false;
        Assert.Equal(1, old.Finish());
        var completions = new RingCompletion[1];
        while (ring.Ring.Reap(completions) == 0)
            Thread.Yield();
        Assert.Equal(Errno.Ok, completions[0].Status);
        joining.Join();
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        Assert.True(rig.Members[2].Store[..(int)set.Capacity].SequenceEqual(rig.Members[0].Store[..(int)set.Capacity]));
        Assert.Equal(9, rig.Members[2].Store[0]);
        Assert.Equal(0, old.OpenQueues);
    }

    [Fact]
    public void However_often_members_are_replaced_their_devices_need_no_more_queues() => SetRig.With(static rig =>
    {
        // For the set itself, for the ring, and one to spare.
        var few = new NvmeModelOptions { OwnThread = false, MaxQueues = 3, SizeBytes = 1 << 20 };
        BlockDevice[] disks = [rig.Disk(few), rig.Disk(few)];
        var set = (MirrorSet)rig.Set(new Raid1Factory(), null, disks);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        using SetRing ring = rig.Open(set);
        for (int round = 0; round < 8; round++)
        {
            ring.Memory(0, 4096).Fill((byte)round);
            Assert.Equal(Errno.Ok, ring.Write(0, 4096, round * 4096).Status);
            set.Fail(round % 2);
            Assert.Equal(Errno.Ok, ring.Write(0, 4096, (round + 20) * 4096).Status);
            set.Replace(round % 2, disks[round % 2]);
            Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        }

        Assert.All(set.Members, static m => Assert.Equal("InSync", m.State));
    });
}
