using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Metadata;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>Which members a mirror goes on with; with members on strings.</summary>
public sealed class MirrorMemberTests
{
    private const int Region = 64 << 10;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

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
}
