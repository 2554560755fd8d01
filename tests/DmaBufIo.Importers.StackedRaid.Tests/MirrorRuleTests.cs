using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Metadata;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>The order in which a mirror does things, with members on strings: what is written and recorded before what.</summary>
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
}
