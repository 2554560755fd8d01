using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Metadata;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>What a mirror copies to a member that lacks it, and what goes on meanwhile; with members on strings.</summary>
public sealed class MirrorCopyingTests
{
    private const int Region = 64 << 10;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void Copying_waits_for_writes_to_its_range_that_had_begun()
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        set.Fail(1);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 2 * Region).Status);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 6 * Region).Status);
        PuppetBlockDevice source = rig.Members[0];
        source.OnSubmit = bio => source.Hold |= bio.Operation == BioOperation.Read && bio.Sector << 9 == 2 * Region;
        set.Replace(1, rig.Members[1]);
        while (source.Held == 0)
            Thread.Yield();

        // The copying stands in region 2; a write to region 6 begins, and stays on its way.
        Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 4096, 6 * Region, 1));
        ring.Ring.Submit(Token);
        Assert.Equal(2, source.Held);
        int early = 0;
        bool reached = false;
        source.OnSubmit = bio =>
        {
            bool isCopying = bio.Operation == BioOperation.Read && bio.Sector << 9 == 6 * Region;
            Volatile.Write(ref reached, reached || isCopying);
            early += isCopying && source.Held != 0 ? 1 : 0;
        };
        int waited = 0;
        source.OnPoll = held => Volatile.Write(ref waited, waited + (held == 1 ? 1 : 0));
        source.Hold = false;
        source.Finish(1);
        while (!Volatile.Read(ref reached) && Volatile.Read(ref waited) < 2)
            Thread.Yield(); // who copies looks at the write again and again, or does not wait for it
        source.Finish();
        Assert.Equal(1, ring.Ring.Reap(new RingCompletion[1], 1, Token));
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        Assert.Equal((0, true), (early, reached));
        source.OnPoll = null;
        Assert.True(source.Store[..(int)set.Capacity].SequenceEqual(rig.Members[1].Store[..(int)set.Capacity]));
    }

    [Fact]
    public void Where_the_copies_may_differ_all_reads_go_to_the_first_member_and_elsewhere_they_take_turns()
    {
        using var rig = new PuppetRig(2);
        using (MirrorSet made = rig.Mirror())
        {
        }

        // As a crash leaves it: one region is in the record, and the copies differ there. Members that cannot be written are not brought into step.
        rig.Members[1].Store.Slice(0, Region).Fill(0x55);
        foreach (PuppetBlockDevice member in rig.Members)
        {
            PuppetRig.WriteIntents(member, 0);
            member.WriteProtected = true;
        }

        using MirrorSet set = PuppetRig.Assemble("read only", rig.Members);
        Assert.True(set.IsReadOnly);
        var asked = new List<int>();
        for (int i = 0; i < 2; i++)
        {
            int member = i;
            rig.Members[i].OnSubmit = bio => asked.Add(member);
        }

        using var ring = new SetRing(set, 1 << 20, 8);
        for (int i = 0; i < 8; i++)
            Assert.Equal(Errno.Ok, ring.Read(0, 4096, i * 4096).Status);
        Assert.Equal(Enumerable.Repeat(0, 8), asked);
        asked.Clear();
        for (int i = 0; i < 8; i++)
            Assert.Equal(Errno.Ok, ring.Read(0, 4096, Region + (i * 4096)).Status);
        Assert.Equal(4, asked.Count(static m => m == 0));
    }

    [Fact]
    public void While_a_range_is_copied_no_write_to_it_goes_out_and_others_do()
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        set.Fail(1);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 2 * Region).Status);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 5 * Region).Status);

        // The copying reads from the first member: it stops there.
        rig.Members[0].OnSubmit = bio => rig.Members[0].Hold |= bio.Operation == BioOperation.Read && bio.Sector << 9 == 2 * Region;
        set.Replace(1, rig.Members[1]);
        while (rig.Members[0].Held == 0)
            Thread.Yield();
        rig.Members[0].Hold = false; // from here on; the read stays where it is
        var written = new List<long>();
        rig.Members[1].OnSubmit = bio =>
        {
            if (bio.Operation == BioOperation.Write && bio.Sector << 9 < set.Capacity)
                written.Add(bio.Sector << 9);
        };
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, (5 * Region) + 8192).Status);
        Assert.Equal([(5L * Region) + 8192], written);
        written.Clear();
        Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 4096, (2 * Region) + 4096, 1));
        ring.Ring.Submit(Token);
        Assert.Empty(written);
        ring.Exporter.Move(Token); // it holds no reference while it waits
        Assert.Equal(0, ring.Ring.Reap(new RingCompletion[1]));
        Assert.Empty(written);
        rig.Members[0].OnSubmit = null;
        rig.Members[0].Finish();
        var completions = new RingCompletion[1];
        Assert.Equal(1, ring.Ring.Reap(completions, 1, Token));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 4096), completions[0]);
        Assert.Equal([(2L * Region) + 4096], written);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        Assert.True(rig.Members[0].Store[..(int)set.Capacity].SequenceEqual(rig.Members[1].Store[..(int)set.Capacity]));
    }

    [Fact]
    public void After_a_crash_only_the_regions_in_the_record_are_copied()
    {
        using var rig = new PuppetRig(2);
        using (MirrorSet made = rig.Mirror())
        {
        }

        foreach (PuppetBlockDevice member in rig.Members)
            PuppetRig.WriteIntents(member, 3, 7);
        rig.Members[1].Store.Slice(7 * Region, 100).Fill(1);
        rig.Members[1].Store.Slice(9 * Region, 100).Fill(2); // nobody has said so: it is not looked at
        var read = new HashSet<long>();
        rig.Members[1].OnSubmit = bio =>
        {
            lock (read)
            {
                if (bio.Operation == BioOperation.Read && bio.Sector << 9 < PuppetRig.DeviceSize - MetadataLayout.TailSize)
                    read.Add((bio.Sector << 9) / Region);
            }
        };
        using MirrorSet set = rig.Mirror();
        Assert.Equal([3L, 7L], read.Order());
        Assert.Equal(0, rig.Members[1].Store[7 * Region]);
        Assert.Equal(2, rig.Members[1].Store[9 * Region]);
    }

    [Fact]
    public void A_member_that_comes_back_gets_what_it_has_missed_and_a_stranger_gets_everything()
    {
        using var rig = new PuppetRig(3);
        using MirrorSet set = PuppetRig.Assemble("two", rig.Members[..2]);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        using var ring = new SetRing(set, 1 << 20, 8);
        set.Fail(1);
        ring.Memory(0, 4096).Fill(3);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 5 * Region).Status);
        var read = new HashSet<long>();
        rig.Members[1].OnSubmit = bio => Note(read, bio, set);
        set.Replace(1, rig.Members[1]);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        Assert.Contains(5L, read);
        Assert.True(read.Count < 15, "a member that came back was copied as a whole");
        Assert.True(rig.Members[1].Store.Slice(5 * Region, 4096).SequenceEqual(ring.Memory(0, 4096)));
        set.Fail(0);
        read.Clear();
        rig.Members[2].OnSubmit = bio => Note(read, bio, set);
        set.Replace(0, rig.Members[2]);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        Assert.Equal(15, read.Count);
        Assert.True(rig.Members[2].Store[..(int)set.Capacity].SequenceEqual(rig.Members[1].Store[..(int)set.Capacity]));
        Assert.Equal(Errno.EBUSY, Assert.Throws<DmaBufIoException>(() => set.Replace(0, rig.Members[0])).Errno);
    }

    [Fact]
    public void A_member_that_joins_while_others_are_copied_to_is_not_in_step_before_all_queues_write_to_it()
    {
        using var rig = new PuppetRig(3);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        set.Fail(1);
        set.Fail(2);
        ring.Memory(0, 4096).Fill(5);
        for (int region = 2; region < 15; region++)
            Assert.Equal(Errno.Ok, ring.Write(0, 4096, region * Region).Status); // many steps of copying, between which the other comes in
        PuppetBlockDevice source = rig.Members[0];
        source.OnSubmit = bio => source.Hold |= bio.Operation == BioOperation.Read && bio.Sector << 9 == 2 * Region;
        set.Replace(1, rig.Members[1]);
        while (source.Held == 0)
            Thread.Yield();

        // Each step of the copying lasts longer than a thread needs to wake. Nothing depends on it but how surely the joining comes between two of them.
        source.OnSubmit = bio =>
        {
            if (bio.Operation == BioOperation.Read && bio.Sector << 9 > 2 * Region)
                SpinWait.SpinUntil(static () => false, 2);
        };

        // The copying stands; a read keeps the map, without which the joining of another member waits.
        Assert.True(ring.Ring.TryReadFixed(ring.File, 0, 0, 4096, 2 * Region, 1));
        ring.Ring.Submit(Token);
        Assert.Equal(2, source.Held);
        source.Hold = false;
        var joining = new Thread(() => set.Replace(2, rig.Members[2]));
        joining.Start();
        while (!DmaBufIoDiagnostics.Snapshot().Waits.Any(static w => w.WaitsFor.Contains("control of", StringComparison.Ordinal)))
            Thread.Yield();
        source.Finish(1);
        while (set.Members[1].State != "InSync" || set.Members[2].State == "Missing")
            Thread.Yield();
        Assert.Equal("Rebuilding", set.Members[2].State);
        source.OnSubmit = null;

        // Written to one and not to the other, which is copied to afterwards.
        ring.Memory(4096, 4096).Fill(6);
        Assert.True(joining.IsAlive);
        source.Finish();
        Assert.Equal(1, ring.Ring.Reap(new RingCompletion[1], 1, Token));
        joining.Join();
        Assert.Equal(Errno.Ok, ring.Write(4096, 4096, 2 * Region).Status);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        Assert.All(set.Members, static m => Assert.Equal("InSync", m.State));
        foreach (PuppetBlockDevice member in rig.Members)
            Assert.True(member.Store[..(int)set.Capacity].SequenceEqual(source.Store[..(int)set.Capacity]));
    }

    private static void Note(HashSet<long> read, in Bio bio, MirrorSet set)
    {
        lock (read)
        {
            if (bio.Operation == BioOperation.Read && bio.Sector << 9 < set.Capacity)
                read.Add((bio.Sector << 9) / Region);
        }
    }
}
