using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Rings;
using FsCheck;
using FsCheck.Fluent;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>Random sets of sets, requests, invalidations, resets, members lost and replaced, against a plain byte array.</summary>
public sealed class GeneratedTests
{
    private const long BufferSize = 1 << 20;

    [Fact]
    public void Any_requests_and_disturbances_on_any_nesting_of_sets_leave_what_a_byte_array_says()
    {
        Gen<Step> step =
            from kind in Gen.Choose(0, 19)
            from block in Gen.Choose(0, 5000)
            from blocks in Gen.Choose(1, 300)
            from memory in Gen.Choose(0, 1700)
            select new Step(kind, block, blocks, memory);
        Check.One(
            Config.QuickThrowOnFailure.WithMaxTest(150).WithEndSize(50),
            Prop.ForAll(Gen.Zip(Gen.Choose(0, int.MaxValue), step.ArrayOf()).ToArbitrary(), static t => Walk(t.Item1, t.Item2)));
    }

    private static void Walk(int seed, Step[] steps) => SetRig.With(rig =>
    {
        var made = new RandomSet(rig, seed);
        BlockDevice set = made.Device;
        var random = new Random(seed);
        byte[] model = new byte[set.Capacity];
        using SetRing ring = rig.Open(set, BufferSize);
        Settle(ring, model);
        foreach (Step step in steps)
        {
            long offset = step.Block * 512L % set.Capacity;
            long memory = step.Memory * 512L % BufferSize;
            int length = (int)Math.Min(Math.Min(step.Blocks * 512L, set.Capacity - offset), BufferSize - memory);
            switch (step.Kind)
            {
                case 0:
                    ring.Exporter.Move(TestContext.Current.CancellationToken);
                    break;
                case 1:
                    made.Disturb(random);
                    break;
                case 2:
                    rig.Bindings[random.Next(rig.Bindings.Count)].Reset();
                    break;
                case 3:
                    Assert.Equal(Errno.Ok, ring.Flush().Status);
                    break;
                case < 11:
                    random.NextBytes(ring.Memory(memory, length));
                    ring.Memory(memory, length).CopyTo(model.AsSpan((int)offset));
                    Assert.Equal(new RingCompletion(1, Errno.Ok, length), ring.Write(memory, length, offset));
                    break;
                default:
                    ring.Memory(memory, length).Fill(0xEE);
                    Assert.Equal(new RingCompletion(1, Errno.Ok, length), ring.Read(memory, length, offset));
                    Assert.True(ring.Memory(memory, length).SequenceEqual(model.AsSpan((int)offset, length)), $"seed {seed}: read of {offset}+{length}");
                    break;
            }
        }

        // Whoever is read, the answer is the same: every copy is in step in the end.
        foreach (IRedundantDevice mirror in made.Mirrors)
        {
            while (mirror.Members.Any(static m => m.State == "Missing"))
                made.Disturb(random);
            Assert.Equal(Errno.Ok, mirror.WaitInSync(TestContext.Current.CancellationToken));
        }

        for (int turn = 0; turn < 3; turn++)
            Compare(ring, model, seed);
    });

    // What a new set holds nobody knows; a mirror of zeros is one.
    private static void Settle(SetRing ring, byte[] model) => Compare(ring, model, seed: -1);

    private static void Compare(SetRing ring, byte[] model, int seed)
    {
        for (long at = 0; at < model.Length; at += BufferSize)
        {
            int length = (int)Math.Min(BufferSize, model.Length - at);
            Assert.Equal(new RingCompletion(1, Errno.Ok, length), ring.Read(0, length, at));
            Assert.True(ring.Memory(0, length).SequenceEqual(model.AsSpan((int)at, length)), $"seed {seed}: contents of {at}+{length}");
        }
    }

    /// <summary>One step; printed by a failing test.</summary>
    public readonly record struct Step(int Kind, int Block, int Blocks, int Memory);
}
