using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Striped;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>A member's driver throws where it may not: that costs its parts, and nothing else.</summary>
public sealed class FailingDriverTests
{
    private const int Chunk = 4096;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void A_driver_that_throws_at_a_part_fails_its_request_once_and_the_next_ones_go_on(int member)
    {
        using var rig = new PuppetRig(3);
        using var faults = new DriverFaults();
        using var ring = new SetRing(new Raid0Factory().Create(SetRig.Expression("raid0", "4K", rig.Members.Length), rig.Members), 1 << 16, 8);
        for (int round = 0; round < 20; round++)
        {
            bool isThrowing = round % 2 == 0;
            rig.Members[member].OnSubmit = isThrowing ? static _ => throw new InvalidTimeZoneException("a driver's mistake") : null;
            Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 3 * Chunk, 0, 1));
            Assert.True(ring.Ring.TryFlush(ring.File, 2));
            Assert.Equal(isThrowing ? [Errno.EIO, Errno.EIO] : [Errno.Ok, Errno.Ok], ring.Run().Select(static c => c.Status));
            ring.Exporter.Move(Token); // nothing is left that would hold the map
        }

        Assert.Equal(0, ring.Ring.InFlight);
        Assert.Equal(20, faults.Seen.Count);
        Assert.All(faults.Seen, f => Assert.Equal(($"Submit of puppet{member}", typeof(InvalidTimeZoneException)), (f.Callback, f.Exception.GetType())));
    }

    [Fact]
    public void A_mirror_drops_such_a_member_and_no_request_fails()
    {
        using var rig = new PuppetRig(3);
        using var faults = new DriverFaults();
        using MirrorSet set = rig.Mirror();
        using var ring = new SetRing(set, 1 << 16, 8);
        rig.Members[1].OnSubmit = static _ => throw new InvalidTimeZoneException("a driver's mistake");
        for (int i = 0; i < 4; i++)
        {
            Assert.Equal(Errno.Ok, ring.Write(0, Chunk, i * Chunk).Status);
            Assert.Equal(Errno.Ok, ring.Read(0, Chunk, i * Chunk).Status);
        }

        Assert.Equal(["InSync", "Missing", "InSync"], set.Members.Select(static m => m.State));
        Assert.NotEmpty(faults.Seen);
    }

    [Fact]
    public void What_follows_from_parts_that_end_at_once_is_with_its_member_when_the_look_ends()
    {
        using var rig = new PuppetRig(3);
        using var faults = new DriverFaults();
        using MirrorSet set = rig.Mirror();
        PuppetBlockDevice last = rig.Members[2];
        bool isAsked = false;
        last.OnSubmit = bio => isAsked |= bio.Operation == BioOperation.Read;
        rig.Members[0].OnSubmit = rig.Members[1].OnSubmit = static bio =>
        {
            if (bio.Operation == BioOperation.Read)
                throw new InvalidTimeZoneException("a driver's mistake");
        };
        var ended = new List<BioHandle>();
        using var memory = DmaBufIo.Memory.MemoryRegion.Allocate("memory", Chunk);
        using var context = new Io.IoContext("test");
        using var bios = new BioPool(4);
        int owner = bios.AddOwner(new Owner(ended));
        using (BlockQueue queue = set.OpenQueue(context, bios, 4))
        {
            context.Enter();
            Assert.True(bios.TryAllocate(BioOperation.Read, new DmaBufIo.Memory.MemoryRange(memory, 0, Chunk), 0, out BioHandle bio, owner, 0));
            Assert.Equal(1, queue.Submit(new ReadOnlySpan<BioHandle>(in bio)));
            queue.Commit();

            // The first member asked has ended its part at once, the second will: one look is all there is before an interrupt, and none would come.
            queue.Poll(int.MaxValue);
            context.Leave();
            Assert.True(isAsked);
            while (ended.Count == 0)
            {
                context.Enter();
                queue.Poll(int.MaxValue);
                bios.Dispatch();
                context.Leave();
            }
        }
    }

    private sealed class Owner(List<BioHandle> ended) : IBioOwner
    {
        public void BioEnded(BioHandle bio) => ended.Add(bio);
    }

    private sealed class DriverFaults : IDisposable
    {
        private readonly List<DriverFault> _seen = [];

        internal DriverFaults() => DmaBufIoDiagnostics.DriverFaulted += Add;

        internal IReadOnlyList<DriverFault> Seen
        {
            get
            {
                lock (_seen)
                    return [.. _seen];
            }
        }

        public void Dispose() => DmaBufIoDiagnostics.DriverFaulted -= Add;

        private void Add(DriverFault fault)
        {
            if (fault.Exception is not InvalidTimeZoneException)
                return; // another test's
            lock (_seen)
                _seen.Add(fault);
        }
    }
}
