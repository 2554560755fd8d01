using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Metadata;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>A mirror that is removed while rings use it. Its members stay.</summary>
public sealed class MirrorRemovalTests
{
    private const int Region = 64 << 10;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void T11_a_mirror_that_is_removed_lets_end_what_its_members_have_and_answers_ENODEV_to_what_comes()
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        using (var ring = new SetRing(set, 1 << 20, 8))
        {
            using IDisposable letsGo = rig.LetsGo();
            Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
            foreach (PuppetBlockDevice member in rig.Members)
                member.Hold = true;
            ring.Memory(0, 4096).Fill(7);
            Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 4096, 0, 1));
            ring.Ring.Submit(Token);
            Assert.Equal([1, 1], rig.Members.Select(static m => m.Held));

            // The queue knows when the removal has come by, which looks for what has ended at the same time.
            int test = Environment.CurrentManagedThreadId;
            bool hasCome = false;
            rig.Members[1].OnPoll = _ => hasCome |= Environment.CurrentManagedThreadId != test;
            Thread removal = Start(set.Dispose);
            Until(() => Volatile.Read(ref hasCome));
            Assert.True(set.IsRemoved);

            // It goes nowhere, and waits for nobody.
            Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 4096, 8192, 2));
            Assert.True(ring.Ring.TryReadFixed(ring.File, 0, 0, 4096, 0, 3));
            Assert.True(ring.Ring.TryFlush(ring.File, 4));
            RingCompletion[] late = Reap(ring, submit: true, 3);
            Assert.Equal([Errno.ENODEV, Errno.ENODEV, Errno.ENODEV], late.Select(static c => c.Status));
            Assert.Equal([1, 1], rig.Members.Select(static m => m.Held));
            Assert.True(removal.IsAlive);
            foreach (PuppetBlockDevice member in rig.Members)
            {
                member.Hold = false;
                Assert.Equal(1, member.Finish());
            }

            Assert.Equal(Errno.Ok, Assert.Single(Reap(ring, submit: false, 1)).Status);
            removal.Join();

            // Nothing of it is mapped any more, and nothing is mapped again (T11).
            Assert.Equal([0, 0], rig.Members.Select(static m => m.LiveMaps));
            Assert.Equal(Errno.ENODEV, ring.Read(0, 4096, 0).Status);
            Assert.Equal([0, 0], rig.Members.Select(static m => m.LiveMaps));
            DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => new SetRing(set, 4096, 1));
            Assert.Equal(Errno.ENODEV, refused.Errno);
            Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => set.Fail(0)).Errno);
            Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => set.Replace(0, rig.Members[0])).Errno);
        }

        // The members are in step, with the write that ended well, and nothing is left to be copied.
        Assert.Equal([0, 0], rig.Members.Select(static m => m.OpenQueues));
        foreach (PuppetBlockDevice member in rig.Members)
        {
            Assert.True(member.Store[..4096].IndexOfAnyExcept((byte)7) < 0);
            Assert.DoesNotContain((byte)1, PuppetRig.NewestIntents(member, out _));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void T11_what_failed_on_a_member_as_the_mirror_was_removed_ends_when_the_other_one_has_recorded_it(bool isFlush)
    {
        using var rig = new PuppetRig(2);
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 20, 8);
        using IDisposable letsGo = rig.LetsGo();
        Assert.Equal(Errno.Ok, ring.Write(0, 4096, 0).Status);
        foreach (PuppetBlockDevice member in rig.Members)
            member.Hold = true;
        Assert.True(isFlush ? ring.Ring.TryFlush(ring.File, 1) : ring.Ring.TryWriteFixed(ring.File, 0, 0, 4096, 0, 1));
        ring.Ring.Submit(Token);
        Thread removal = Start(set.Dispose);
        Until(() => set.IsRemoved);
        rig.Members[0].FailWith = Errno.EIO;
        Assert.Equal(1, rig.Members[0].Finish());
        rig.Members[0].FailWith = Errno.Ok;
        rig.Members[1].Hold = false;
        Assert.InRange(rig.Members[1].Finish(), 1, 2); // with it, perhaps, what is to record the failure
        rig.Members[0].Hold = false;
        Assert.Equal(Errno.Ok, Assert.Single(Reap(ring, submit: false, 1)).Status);
        removal.Join();
        Assert.Equal([MemberState.Missing, MemberState.InSync], PuppetRig.NewestSuperblock(rig.Members[1]).States);
    }

    [Fact]
    public void T11_who_waits_until_a_mirror_is_in_step_is_told_when_it_is_removed_before()
    {
        using var rig = new PuppetRig(2);
        rig.Mirror().Dispose();
        int[] all = [.. Enumerable.Range(0, PuppetRig.NewestIntents(rig.Members[0], out _).Length)];
        PuppetRig.WriteIntents(rig.Members[0], all);
        PuppetRig.WriteIntents(rig.Members[1], all);

        // The first piece that is copied stays on its way until the removal waits for its turn, and those that may come before that are in no hurry.
        rig.Members[0].OnSubmit = bio => rig.Members[0].Hold |= bio.Operation == BioOperation.Read && bio.Sector << 9 < PuppetRig.DeviceSize - MetadataLayout.TailSize;
        using MirrorSet set = PuppetRig.Assemble("told", rig.Members);
        using IDisposable letsGo = rig.LetsGo();
        Errno waited = Errno.Ok;
        Thread waiting = Start(() => waited = set.WaitInSync(Token));
        Until(() => rig.Members[0].Held != 0);
        Thread removal = Start(set.Dispose);
        Until(static () => DmaBufIoDiagnostics.Snapshot().Waits.Any(static w => w.WaitsFor.Contains("control of told", StringComparison.Ordinal)));
        Until(() =>
        {
            rig.Members[0].Finish();
            return !removal.IsAlive;
        });
        waiting.Join();
        Assert.Equal(Errno.ENODEV, waited);
        Assert.Contains((byte)1, PuppetRig.NewestIntents(rig.Members[0], out _)); // and what is left of it is not forgotten
    }

    [Fact]
    public void T11_mirrors_that_are_removed_under_load_end_every_request_once_and_leave_members_that_are_the_same()
    {
        const int Rounds = 40;
        const int Depth = 16;
        using var rig = new PuppetRig(2);
        for (int round = 0; round < Rounds; round++)
        {
            using MirrorSet set = rig.Mirror();
            using var ring = new SetRing(set, 1 << 20, Depth);
            int well = 0;
            Exception? failure = null;
            Thread owner = Start(() =>
            {
                try
                {
                    // Until all are refused. Reads and writes of overlapping ranges in many regions, so that some wait for their region.
                    for (int i = 0, refused = 0; refused < Depth; i++)
                    {
                        for (int request = 0; request < Depth; request++)
                        {
                            long place = ((i * 31) + (request * 7)) % 12 * (Region / 2);
                            bool prepared = request % 3 == 0
                                ? ring.Ring.TryReadFixed(ring.File, 0, 512 << 10, 4096, place, (ulong)request)
                                : ring.Ring.TryWriteFixed(ring.File, 0, request * 4096, 4096, place, (ulong)request);
                            Assert.True(prepared);
                        }

                        RingCompletion[] ends = ring.Run();
                        Assert.Equal(Enumerable.Range(0, Depth).Select(static n => (ulong)n), ends.Select(static c => c.UserData));
                        Assert.All(ends, static c => Assert.True(c.Status is Errno.Ok or Errno.ENODEV, $"{c.Status}"));
                        refused = ends.Count(static c => c.Status == Errno.ENODEV);
                        Interlocked.Add(ref well, Depth - refused);
                    }
                }
                catch (Exception e)
                {
                    failure = e;
                }
            });
            int most = round % 8 * Depth;
            Until(() => Volatile.Read(ref well) >= most || !owner.IsAlive);
            set.Dispose();
            owner.Join();
            Assert.True(failure is null, failure?.ToString());
            Assert.True(rig.Members[0].Store[..(int)set.Capacity].SequenceEqual(rig.Members[1].Store[..(int)set.Capacity]));
            Assert.DoesNotContain((byte)1, PuppetRig.NewestIntents(rig.Members[0], out _));
        }
    }

    private static Thread Start(Action action)
    {
        var thread = new Thread(() => action());
        thread.Start();
        return thread;
    }

    private static void Until(Func<bool> condition)
    {
        while (!condition())
        {
            Token.ThrowIfCancellationRequested();
            Thread.Yield();
        }
    }

    private static RingCompletion[] Reap(SetRing ring, bool submit, int count)
    {
        if (submit)
            ring.Ring.Submit(Token);
        var all = new RingCompletion[count];
        for (int done = 0; done < count;)
        {
            Token.ThrowIfCancellationRequested();
            done += ring.Ring.Reap(all.AsSpan(done));
            Thread.Yield();
        }

        return all;
    }
}
