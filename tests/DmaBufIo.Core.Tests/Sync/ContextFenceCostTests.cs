using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Io;
using DmaBufIo.Sync;
using DmaBufIo.Tests.House;

namespace DmaBufIo.Tests.SyncTests;

/// <summary>Who is interrupted by a kill. Alone in the process, for barriers are counted for all of it.</summary>
[Collection(nameof(AllocationTests))]
public sealed class ContextFenceCostTests
{
    public ContextFenceCostTests()
    {
        // Tests that have ended may have left contexts behind, whose owners answer nobody.
        foreach (IoContext left in ContextTable.Living())
            left.Dispose();
    }

    [Fact]
    public void T17_a_kill_by_the_owner_of_all_contexts_interrupts_nobody()
    {
        IoContext[] contexts = [.. Enumerable.Range(0, 3).Select(static i => new IoContext($"own{i}"))];
        foreach (IoContext context in contexts.AsSpan(0, 2))
        {
            context.Enter();
            context.Leave();
        }

        Assert.Equal(0, BarriersOf(Kill));
        contexts[0].Visit(static () => { });
        Assert.Equal(0, BarriersOf(() => contexts[0].Visit(static () => { })));
        foreach (IoContext context in contexts)
            context.Dispose();
    }

    [Fact]
    public void T17_a_kill_waits_for_the_answer_of_an_owner_that_comes_by()
    {
        using var context = new IoContext("busy");
        bool stop = false;
        long batches = 0;
        Actor owner = Actor.Start("owner", () =>
        {
            while (!Volatile.Read(ref stop))
            {
                context.Enter();
                context.Leave();
                Volatile.Write(ref batches, batches + 1);
            }
        });
        Actor.Until(() => Volatile.Read(ref batches) > 0, "the owner is at work");

        // An owner whose thread has lost its processor does not come by soon: not every kill can do without, but one of many can.
        int kills = 0;
        while (BarriersOf(Kill) != 0)
            Assert.True(++kills < 10_000, "no kill was answered");
        Volatile.Write(ref stop, true);
        owner.Join();
    }

    [Fact]
    public void T17_a_kill_pays_the_barrier_when_an_owner_does_not_answer()
    {
        using var context = new IoContext("another's");
        Batch(context);
        Assert.Equal(1, BarriersOf(Kill));
        Assert.Equal(1, BarriersOf(Kill));

        // What was answered to an earlier question is no answer to this one.
        Batch(context);
        Assert.Equal(1, BarriersOf(Kill));
        Assert.Equal(1, BarriersOf(() => context.Visit(static () => { })));
    }

    [Fact]
    public void T14_nor_does_anybody_answer_for_a_visitor()
    {
        using var context = new IoContext("visited");
        context.Enter();
        context.Leave();
        using var inside = new ManualResetEventSlim();
        using var letGo = new ManualResetEventSlim();
        Actor visitor = Actor.Start("visitor", () => context.Visit(() =>
        {
            inside.Set();
            letGo.Wait(Actor.Limit, CancellationToken.None);
        }));
        Assert.True(inside.Wait(Actor.Limit, TestContext.Current.CancellationToken));
        Assert.Equal(1, BarriersOf(Kill));
        letGo.Set();
        visitor.Join();
        Assert.Equal(0, BarriersOf(Kill));
    }

    private static void Batch(IoContext context) => Actor.Start("owner", () =>
    {
        context.Enter();
        context.Leave();
    }).Join();

    private static long BarriersOf(Action action)
    {
        long before = Counters.Barriers.Value;
        action();
        return Counters.Barriers.Value - before;
    }

    private static void Kill()
    {
        var gate = new RequestGate(1, static () => { });
        gate.BeginKill();
        using var batch = new InvalidationBatch();
        batch.AddKilled(gate);
        batch.Complete();
        Assert.True(gate.IsDrained);
    }
}
