using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Metadata;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>Members that were away: old images, members that went on apart, members that are missed.</summary>
public sealed class MirrorHistoryTests
{
    private const int Region = 64 << 10;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void An_image_of_a_member_from_before_the_last_assembly_is_not_taken_for_one_that_is_in_step()
    {
        using var rig = new PuppetRig(2);
        Write(rig, region: 0, value: 1);
        byte[] image = rig.Members[1].Store.ToArray();
        Write(rig, region: 7, value: 2);
        image.CopyTo(rig.Members[1].Store);
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => rig.Mirror());
        Assert.Equal(Errno.ENODEV, refused.Errno);
        Assert.Contains("is an older image", refused.Message, StringComparison.Ordinal);
        using MirrorSet set = rig.Mirror(degraded: true);
        Assert.Equal(2, rig.Members[1].Store[7 * Region]);
        Assert.True(Data(set, rig.Members[0]).SequenceEqual(Data(set, rig.Members[1])));
    }

    [Fact]
    public void An_image_of_a_lost_member_from_an_earlier_assembly_gets_everything_when_it_comes_back()
    {
        using var rig = new PuppetRig(2);
        Write(rig, region: 0, value: 1);
        byte[] image = rig.Members[1].Store.ToArray();
        Write(rig, region: 7, value: 2);
        using MirrorSet set = rig.Mirror();
        set.Fail(1);
        image.CopyTo(rig.Members[1].Store);
        set.Replace(1, rig.Members[1]);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        Assert.Equal(2, rig.Members[1].Store[7 * Region]);
    }

    [Fact]
    public void A_member_that_a_crash_has_kept_from_the_last_superblock_is_in_step()
    {
        using var rig = new PuppetRig(3);
        byte[] before;
        using (MirrorSet made = rig.Mirror())
        {
            before = Tail(rig.Members[1]).ToArray();
            made.Fail(2);
        }

        before.CopyTo(Tail(rig.Members[1]));
        Guid identity = PuppetRig.NewestSuperblock(rig.Members[0]).Members[1];
        Assert.Equal(PuppetRig.NewestSuperblock(rig.Members[0]).Sequence - 1, PuppetRig.NewestSuperblock(rig.Members[1]).Sequence);
        using MirrorSet set = PuppetRig.Assemble("after the crash", rig.Members);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        Assert.Equal(identity, PuppetRig.NewestSuperblock(rig.Members[0]).Members[1]); // who gets everything is another member
    }

    [Fact]
    public void A_superblock_never_goes_over_the_newest_one_of_its_member()
    {
        using var rig = new PuppetRig(3);
        byte[] before;
        using (MirrorSet made = rig.Mirror())
        {
            before = Tail(rig.Members[1]).ToArray();
            made.Fail(2);
        }

        before.CopyTo(Tail(rig.Members[1]));
        ulong newest = PuppetRig.NewestSuperblock(rig.Members[1]).Sequence;
        bool wasSeen = false;
        rig.Members[1].OnSubmit = bio =>
        {
            if (wasSeen || bio.Operation != BioOperation.Write || bio.Sector << 9 >= MetadataLayout.IntentsAt(MetadataLayout.TailOf(PuppetRig.DeviceSize), 0))
                return;
            wasSeen = true;
            Assert.NotEqual(newest, Superblock.Read(rig.Members[1].Store.Slice((int)(bio.Sector << 9), MetadataLayout.BlockSize))?.Sequence);
        };
        using MirrorSet set = rig.Mirror();
        Assert.True(wasSeen);
    }

    [Fact]
    public void A_member_that_has_gone_on_without_the_set_is_not_taken_back()
    {
        using var rig = new PuppetRig(2);
        using var elsewhere = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        set.Fail(1);
        rig.Members[1].Store.CopyTo(elsewhere.Members[1].Store);
        elsewhere.Members[0].FailWith = Errno.EIO;
        using (MirrorSet other = PuppetRig.Assemble("elsewhere", elsewhere.Members, degraded: true))
        using (var ring = new SetRing(other, 1 << 20, 8))
            Assert.Equal(Errno.Ok, ring.Write(0, 4096, 3 * Region).Status);
        elsewhere.Members[1].Store.CopyTo(rig.Members[1].Store);
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => set.Replace(1, rig.Members[1]));
        Assert.Equal(Errno.EINVAL, refused.Errno);
        Assert.Contains("has gone on without this set", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Members_that_have_each_replaced_the_other_are_refused()
    {
        using var left = new PuppetRig(3);
        using var right = new PuppetRig(3);
        using (MirrorSet made = PuppetRig.Assemble("two", left.Members[..2]))
            Assert.Equal(Errno.Ok, made.WaitInSync(Token));
        for (int i = 0; i < 2; i++)
            left.Members[i].Store.CopyTo(right.Members[i].Store);
        GoOnWithAnother(left, lost: 1);
        GoOnWithAnother(right, lost: 0);
        right.Members[1].Store.CopyTo(left.Members[1].Store);
        foreach (bool degraded in new[] { false, true })
        {
            DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => PuppetRig.Assemble("both", left.Members[..2], degraded));
            Assert.Equal(Errno.EINVAL, refused.Errno);
            Assert.Contains("each gone on without the other", refused.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_set_is_not_written_without_a_member_that_its_newest_superblock_counts_on_but_it_is_read()
    {
        using var rig = new PuppetRig(2);
        using (MirrorSet made = rig.Mirror())
            made.Fail(0); // the second member goes on alone, and is the only one who knows
        rig.Members[1].FailWith = Errno.EIO;
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => rig.Mirror());
        Assert.Equal(Errno.ENODEV, refused.Errno);
        Assert.Contains("puppet1 is not there", refused.Message, StringComparison.Ordinal);
        Assert.Contains("degraded", refused.Message, StringComparison.Ordinal);
        rig.Members[0].WriteProtected = true;
        using (MirrorSet read = PuppetRig.Assemble("read only", rig.Members))
            Assert.Contains("puppet1 (Missing)", read.Description, StringComparison.Ordinal);
        rig.Members[0].WriteProtected = false;

        // The other way round the superblock says itself that the first is lost.
        (rig.Members[0].FailWith, rig.Members[1].FailWith) = (Errno.EIO, Errno.Ok);
        using MirrorSet set = PuppetRig.Assemble("alone", rig.Members);
        Assert.Equal(["Missing", "InSync"], set.Members.Select(static m => m.State));
    }

    [Fact]
    public void A_member_that_could_not_be_read_at_assembly_gets_what_is_in_the_record_when_it_is_back()
    {
        using var rig = new PuppetRig(2);
        using (MirrorSet made = rig.Mirror())
        {
        }

        rig.Members[1].FailWith = Errno.EIO;
        using MirrorSet set = PuppetRig.Assemble("one", rig.Members, degraded: true);
        rig.Members[1].FailWith = Errno.Ok;
        using var ring = new SetRing(set, 1 << 20, 8);
        ring.Memory(0, 4096).Fill(9);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 5 * Region).Status);
        var read = new HashSet<long>();
        rig.Members[1].OnSubmit = bio =>
        {
            lock (read)
            {
                if (bio.Operation == BioOperation.Read && bio.Sector << 9 < set.Capacity)
                    read.Add((bio.Sector << 9) / Region);
            }
        };
        set.Replace(1, rig.Members[1]);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        Assert.Equal(9, rig.Members[1].Store[5 * Region]);
        Assert.InRange(read.Count, 1, 8);
    }

    [Fact]
    public void A_member_that_cannot_make_its_data_durable_at_the_end_is_out_of_step_afterwards()
    {
        using var rig = new PuppetRig(2);
        using (MirrorSet set = rig.Mirror())
        {
            using (var ring = new SetRing(set, 1 << 20, 8))
                Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
            PuppetBlockDevice failing = rig.Members[0];
            failing.OnSubmit = bio => failing.FailWith = bio.Operation == BioOperation.Flush ? Errno.EIO : Errno.Ok;
        }

        Assert.Equal([MemberState.Missing, MemberState.InSync], PuppetRig.NewestSuperblock(rig.Members[1]).States);
    }

    [Fact]
    public void Waiting_for_a_set_that_is_only_read_and_whose_copies_may_differ_ends_at_once()
    {
        using var rig = new PuppetRig(2);
        using (MirrorSet made = rig.Mirror())
        {
        }

        foreach (PuppetBlockDevice member in rig.Members)
        {
            PuppetRig.WriteIntents(member, 2);
            member.WriteProtected = true;
        }

        using MirrorSet set = PuppetRig.Assemble("read only", rig.Members);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(Token);
        limit.CancelAfter(TimeSpan.FromSeconds(20));
        Assert.Equal(Errno.EIO, set.WaitInSync(limit.Token));
        Assert.False(set.IsInSync);
    }

    [Fact]
    public void A_device_that_was_dropped_or_refused_is_let_go()
    {
        using var rig = new PuppetRig(3);
        using var other = new PuppetRig(2);
        using (MirrorSet made = other.Mirror())
        {
        }

        using MirrorSet set = PuppetRig.Assemble("two", rig.Members[..2]);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        set.Fail(1);
        Assert.True(SpinWait.SpinUntil(() => rig.Members[1] is { OpenQueues: 0, LiveTokens: 0, LiveMaps: 0 }, TimeSpan.FromSeconds(20)), "the dropped device is still in use");
        other.Members[1].Store.CopyTo(rig.Members[2].Store);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => set.Replace(1, rig.Members[2])).Errno);
        Assert.True(SpinWait.SpinUntil(() => rig.Members[2] is { OpenQueues: 0, LiveTokens: 0, LiveMaps: 0 }, TimeSpan.FromSeconds(20)), "the refused device is still in use");
    }

    [Fact]
    public void While_no_intent_can_be_recorded_writes_fail_and_none_goes_out()
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        int written = 0;
        bool isBroken = true;
        foreach (PuppetBlockDevice member in rig.Members)
        {
            member.OnSubmit = bio =>
            {
                bool isMetadata = bio.Sector << 9 >= set.Capacity;
                if (bio.Operation == BioOperation.Write && !isMetadata)
                    Interlocked.Increment(ref written);
                member.FailWith = Volatile.Read(ref isBroken) && isMetadata ? Errno.EIO : Errno.Ok;
            };
        }

        Assert.Equal(Errno.EIO, ring.Write(0, 4096, 3 * Region).Status);
        Assert.Equal(Errno.EIO, ring.Write(0, 4096, 3 * Region).Status);
        Assert.Equal(0, written);
        Volatile.Write(ref isBroken, false);
        Assert.True(SpinWait.SpinUntil(() => ring.Write(0, 4096, 3 * Region).Status == Errno.Ok, TimeSpan.FromSeconds(20)));
    }

    [Fact]
    public void A_flush_that_failed_on_a_member_ends_also_when_that_was_replaced_before_the_others_have_it()
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
        int flushes = 0;
        PuppetBlockDevice slow = rig.Members[0];
        slow.OnSubmit = bio => slow.Hold = bio.Operation == BioOperation.Flush && Interlocked.Increment(ref flushes) == 1;
        rig.Members[1].FailWith = Errno.EIO;
        Assert.True(ring.Ring.TryFlush(ring.File, 1));
        ring.Ring.Submit(Token);
        while (set.Members[1].State != "Missing")
            Assert.Equal(0, ring.Ring.Reap(new RingCompletion[1]));
        rig.Members[1].FailWith = Errno.Ok;
        set.Replace(1, rig.Members[1]);
        slow.OnSubmit = null;
        slow.Hold = false;
        Assert.Equal(1, slow.Finish());
        var completions = new RingCompletion[1];
        Assert.True(SpinWait.SpinUntil(() => ring.Ring.Reap(completions) == 1, TimeSpan.FromSeconds(20)), "the flush never ends");
        Assert.Equal(Errno.Ok, completions[0].Status);
    }

    private static void Write(PuppetRig rig, int region, byte value)
    {
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        ring.Memory(0, 4096).Fill(value);
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, region * Region).Status);
    }

    private static void GoOnWithAnother(PuppetRig rig, int lost)
    {
        using MirrorSet set = PuppetRig.Assemble("on", rig.Members[..2]);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
        set.Fail(lost);
        set.Replace(lost, rig.Members[2]);
        Assert.Equal(Errno.Ok, set.WaitInSync(Token));
    }

    private static Span<byte> Tail(PuppetBlockDevice member) => member.Store[(int)MetadataLayout.TailOf(PuppetRig.DeviceSize)..];

    private static Span<byte> Data(MirrorSet set, PuppetBlockDevice member) => member.Store[..(int)set.Capacity];
}
