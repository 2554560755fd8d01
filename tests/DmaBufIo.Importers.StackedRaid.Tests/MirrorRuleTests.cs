using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Metadata;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>The order in which a mirror does things, with members on strings.</summary>
public sealed class MirrorRuleTests
{
    private const int Region = 64 << 10;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void A_write_reaches_no_member_before_its_intent_lies_on_all_of_them()
    {
        using var rig = new PuppetRig(2);
        using (MirrorSet made = rig.Mirror())
        {
        }

        Assert.All(rig.Members, static m => Assert.Equal(0, PuppetRig.NewestIntents(m, out _).Count(static r => r != 0)));
        using MirrorSet set = rig.Mirror();
        int seen = 0;
        foreach (PuppetBlockDevice member in rig.Members)
        {
            member.OnSubmit = bio =>
            {
                if (bio.Operation != BioOperation.Write || bio.Sector << 9 >= set.Capacity)
                    return;
                seen++;
                foreach (PuppetBlockDevice other in rig.Members)
                    Assert.Equal(1, PuppetRig.NewestIntents(other, out _)[(bio.Sector << 9) / Region]);
            };
        }

        using var ring = new SetRing(set, 1 << 20, 8);
        for (int region = 0; region < 10; region++)
            Assert.Equal(Errno.Ok, ring.Write(0, 4096, region * Region).Status);
        Assert.Equal(20, seen);
    }

    [Fact]
    public void Nor_while_the_record_is_on_its_way_to_the_last_of_them()
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        int written = 0;
        rig.Members[0].OnSubmit = bio => written += bio.Operation == BioOperation.Write && bio.Sector << 9 < set.Capacity ? 1 : 0;
        rig.Members[1].OnSubmit = bio => rig.Members[1].Hold |= bio.Operation == BioOperation.Write && bio.Sector << 9 >= set.Capacity;
        Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 4096, 3 * Region, 1));
        ring.Ring.Submit(Token);
        while (rig.Members[1].Held == 0)
            Thread.Yield();
        var completions = new RingCompletion[1];
        for (int i = 0; i < 3; i++)
            Assert.Equal(0, ring.Ring.Reap(completions));
        Assert.Equal(0, written);
        rig.Members[1].OnSubmit = null;
        rig.Members[1].Hold = false;
        rig.Members[1].Finish();
        Assert.Equal(1, ring.Ring.Reap(completions, 1, Token));
        Assert.Equal((Errno.Ok, 1), (completions[0].Status, written));
    }

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
    public void A_write_that_failed_on_a_member_ends_when_the_others_superblocks_say_so()
    {
        using var rig = new PuppetRig(3);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
        ulong before = PuppetRig.NewestSuperblock(rig.Members[1]).Sequence;
        rig.Members[0].FailWith = Errno.EIO;
        bool sawOne = false;
        rig.Members[2].OnSubmit = bio => sawOne |= bio.Sector << 9 >= set.Capacity;
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
        Assert.True(sawOne);
        foreach (PuppetBlockDevice member in rig.Members.AsSpan(1))
        {
            Superblock superblock = PuppetRig.NewestSuperblock(member);
            Assert.True(superblock.Sequence > before);
            Assert.Equal([MemberState.Missing, MemberState.InSync, MemberState.InSync], superblock.States);
        }

        Assert.Equal(before, PuppetRig.NewestSuperblock(rig.Members[0]).Sequence);
        rig.Members[0].FailWith = Errno.Ok;
    }

    [Fact]
    public void Nor_does_a_later_write_that_goes_to_the_others_only()
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
        rig.Members[1].OnSubmit = bio => rig.Members[1].Hold |= bio.Operation == BioOperation.Write && bio.Sector << 9 >= set.Capacity;
        rig.Members[0].FailWith = Errno.EIO;
        for (int i = 0; i < 2; i++)
        {
            Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 4096, i * 4096, (ulong)i));
            ring.Ring.Submit(Token);
            while (rig.Members[1].Held == 0)
                ring.Ring.Reap([]);
            rig.Members[1].Hold = false; // the superblock stays where it is, data goes on
        }

        var completions = new RingCompletion[2];
        for (int i = 0; i < 3; i++)
            Assert.Equal(0, ring.Ring.Reap(completions));
        rig.Members[1].OnSubmit = null;
        rig.Members[1].Finish();
        for (int left = 2; left > 0;)
        {
            int count = ring.Ring.Reap(completions, 1, Token);
            Assert.All(completions[..count], static c => Assert.Equal(Errno.Ok, c.Status));
            left -= count;
        }

        Assert.Equal(MemberState.Missing, PuppetRig.NewestSuperblock(rig.Members[1]).States[0]);
    }

    [Fact]
    public void While_nobody_can_be_told_of_a_failure_writes_fail_and_none_is_forgotten()
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);

        // The first member fails; the second cannot be told, and has a part of the write still on its way when that is clear.
        PuppetBlockDevice other = rig.Members[1];
        other.OnSubmit = bio =>
        {
            bool isMetadata = bio.Sector << 9 >= set.Capacity;
            other.Hold = !isMetadata;
            other.FailWith = isMetadata ? Errno.EIO : Errno.Ok;
        };
        rig.Members[0].FailWith = Errno.EIO;
        Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 4096, 0, 1));
        ring.Ring.Submit(Token);
        while (set.Members[0].State != "Missing")
            ring.Ring.Reap([]);
        set.Fail(0); // comes after what the worker does
        other.FailWith = Errno.Ok;
        other.Finish();
        var completions = new RingCompletion[1];
        Assert.Equal(1, ring.Ring.Reap(completions, 1, Token));
        Assert.Equal(Errno.EIO, completions[0].Status);

        // As soon as it can be told, writes are good again.
        other.OnSubmit = null;
        set.Fail(0); // comes after what the worker has begun, and that may have failed
        other.Hold = false;
        other.FailWith = Errno.Ok;
        set.Fail(0);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
        Assert.Equal(MemberState.Missing, PuppetRig.NewestSuperblock(other).States[0]);
    }

    [Fact]
    public void A_write_is_not_acknowledged_while_the_failure_of_a_member_cannot_be_recorded()
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
        rig.Members[0].FailWith = Errno.EIO;
        bool holdTail = true;
        rig.Members[1].OnSubmit = bio => rig.Members[1].Hold = holdTail && bio.Sector << 9 >= set.Capacity;
        Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 4096, 0, 1));
        ring.Ring.Submit(Token);
        var completions = new RingCompletion[1];
        while (rig.Members[1].Held == 0)
            Assert.Equal(0, ring.Ring.Reap(completions));
        Assert.Equal(0, ring.Ring.Reap(completions));
        holdTail = false;
        rig.Members[1].OnSubmit = null;
        rig.Members[1].Hold = false;
        rig.Members[1].Finish();
        Assert.Equal(1, ring.Ring.Reap(completions, 1, Token));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 4096), completions[0]);
        rig.Members[0].FailWith = Errno.Ok;
    }

    [Fact]
    public void A_read_that_fails_is_asked_of_another_member_and_ends_well()
    {
        using var rig = new PuppetRig(3);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        ring.Memory(0, 4096).Fill(7);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
        rig.Members[0].FailWith = Errno.EIO;
        rig.Members[1].FailWith = Errno.EIO;
        for (int i = 0; i < 3; i++)
        {
            ring.Memory(8192, 4096).Clear();
            Assert.Equal(Errno.Ok, ring.Read(8192, 4096, 0).Status);
            Assert.True(ring.Memory(8192, 4096).SequenceEqual(ring.Memory(0, 4096)));
        }

        // The last one is kept, and its error is the request's.
        rig.Members[2].FailWith = Errno.EIO;
        Assert.Equal(Errno.EIO, ring.Read(8192, 4096, 0).Status);
        rig.Members[2].FailWith = Errno.Ok;
        Assert.Equal(Errno.Ok, ring.Read(8192, 4096, 0).Status);
        Assert.Equal("InSync", set.Members[2].State);
        rig.Members[0].FailWith = rig.Members[1].FailWith = Errno.Ok;
    }

    [Fact]
    public void What_a_reset_cancels_is_given_to_the_member_again()
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
        rig.Members[0].Hold = true;
        ring.Memory(0, 4096).Fill(9);
        Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 4096, 0, 1));
        ring.Ring.Submit(Token);
        rig.Members[0].CancelHeld(Errno.ECANCELED);
        rig.Members[0].Hold = false;
        var completions = new RingCompletion[1];
        Assert.Equal(1, ring.Ring.Reap(completions, 1, Token));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 4096), completions[0]);
        Assert.All(rig.Members, m => Assert.True(m.Store[..4096].SequenceEqual(ring.Memory(0, 4096))));
        Assert.All(set.Members, static m => Assert.Equal("InSync", m.State));
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
    public void A_torn_superblock_leaves_the_one_before_and_the_other_members_know_better()
    {
        using var rig = new PuppetRig(2);
        using (MirrorSet made = rig.Mirror())
            made.Fail(1);
        ulong newest = PuppetRig.NewestSuperblock(rig.Members[0]).Sequence;
        long place = MetadataLayout.SuperblockAt(MetadataLayout.TailOf(PuppetRig.DeviceSize), newest);
        rig.Members[0].Store.Slice((int)place, 512).Clear();
        Assert.Equal(newest - 1, PuppetRig.NewestSuperblock(rig.Members[0]).Sequence);
        using MirrorSet set = rig.Mirror();
        Assert.All(set.Members, static m => Assert.Equal("InSync", m.State));
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

    [Fact]
    public void A_member_that_cannot_make_durable_what_it_has_is_dropped_and_the_record_keeps_what_it_may_lack()
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 3 * Region).Status);
        set.Fail(1);

        // Flushes follow writes of metadata; the one that follows none is there to forget regions.
        PuppetBlockDevice failing = rig.Members[0];
        BioOperation last = BioOperation.Write;
        failing.OnSubmit = bio =>
        {
            if (bio.Operation == BioOperation.Flush && last == BioOperation.Flush)
                failing.FailWith = Errno.EIO;
            last = bio.Operation;
        };
        set.Replace(1, rig.Members[1]);
        while (set.Members[0].State != "Missing")
            Thread.Yield();
        Assert.Equal("InSync", set.Members[1].State);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 9 * Region).Status);
        byte[] record = PuppetRig.NewestIntents(rig.Members[1], out _);
        Assert.Equal((1, 1), (record[3], record[9]));
    }

    [Fact]
    public void The_last_member_that_holds_everything_cannot_be_dropped()
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        set.Fail(0);
        Assert.Equal(Errno.EBUSY, Assert.Throws<DmaBufIoException>(() => set.Fail(1)).Errno);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => set.Fail(2)).Errno);
        Assert.Equal(Errno.EIO, set.WaitInSync(Token));
    }

    [Fact]
    public void Members_that_have_each_gone_on_without_the_other_are_refused()
    {
        using var rig = new PuppetRig(2);
        using (MirrorSet made = rig.Mirror())
        {
        }

        byte[][] together = [.. rig.Members.Select(static m => m.Store.ToArray())];
        byte[] first = Alone(rig, together, lost: 1);
        byte[] second = Alone(rig, together, lost: 0);
        first.CopyTo(rig.Members[0].Store);
        second.CopyTo(rig.Members[1].Store);
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => rig.Mirror());
        Assert.Equal(Errno.EINVAL, refused.Errno);
        Assert.Contains("each gone on without the other", refused.Message, StringComparison.Ordinal);

        // One that was only left behind is no such case.
        together[1].CopyTo(rig.Members[1].Store);
        using MirrorSet set = rig.Mirror();
        Assert.All(set.Members, static m => Assert.Equal("InSync", m.State));
    }

    private static byte[] Alone(PuppetRig rig, byte[][] together, int lost)
    {
        for (int i = 0; i < together.Length; i++)
            together[i].CopyTo(rig.Members[i].Store);
        using (MirrorSet set = rig.Mirror())
            set.Fail(lost);
        return rig.Members[1 - lost].Store.ToArray();
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
