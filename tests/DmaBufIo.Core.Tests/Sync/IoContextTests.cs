using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Sync;

namespace DmaBufIo.Tests.SyncTests;

public sealed class IoContextTests
{
    [Fact]
    public void T14_owner_and_visitors_alternate_and_are_never_inside_together()
    {
        using var context = new IoContext("visited");
        int inside = 0;
        long plain = 0; // whoever is inside may use plain fields
        bool stop = false;
        long batches = 0;
        Actor owner = Actor.Start("owner", () =>
        {
            while (!Volatile.Read(ref stop))
            {
                context.Enter();
                Assert.Equal(1, Interlocked.Increment(ref inside));
                plain++;
                Interlocked.Decrement(ref inside);
                context.Leave();
                Interlocked.Increment(ref batches);
            }
        });
        Actor.Until(() => Interlocked.Read(ref batches) > 0, "the owner is at work");
        long visits = 0;
        Actor[] visitors = [.. Enumerable.Range(0, 2).Select(i => Actor.Start("visitor", () =>
        {
            for (int round = 0; round < 500; round++)
            {
                context.Visit(() =>
                {
                    Assert.Equal(1, Interlocked.Increment(ref inside));
                    plain++;
                    Interlocked.Decrement(ref inside);
                });
                Interlocked.Increment(ref visits);
            }
        }))];
        foreach (Actor visitor in visitors)
            visitor.Join();
        Volatile.Write(ref stop, true);
        owner.Join();
        Assert.Equal((1000L, batches + 1000), (visits, plain));
    }

    [Fact]
    public void T14_an_owner_that_may_not_sleep_is_sent_away_by_a_visit_and_keeps_nobody_out()
    {
        using var context = new IoContext("visited");
        using var other = new IoContext("other");
        other.Enter();
        Assert.True(context.TryEnter());
        Assert.True(context.IsActive);
        context.Leave();
        using var inside = new ManualResetEventSlim();
        using var end = new ManualResetEventSlim();
        Actor visitor = Actor.Start("visitor", () => context.Visit(() =>
        {
            inside.Set();
            end.Wait(TestContext.Current.CancellationToken);
        }));
        inside.Wait(TestContext.Current.CancellationToken);
        Assert.False(context.TryEnter());
        Assert.False(context.IsActive);
        end.Set();
        visitor.Join();
        Assert.True(context.TryEnter());
        Assert.Throws<InvalidOperationException>(() => context.TryEnter());
        context.Leave();
        other.Leave();
        Assert.False(NoSleepContext.IsActive);
    }

    [Fact]
    public void T14_an_owner_that_waits_for_a_visit_comes_in_before_the_next_one()
    {
        for (int round = 0; round < 50; round++)
        {
            using var context = new IoContext("visited");
            using var end = new ManualResetEventSlim();
            int batches = 0;
            Actor owner = null!;
            Actor first = Actor.Start("first", () => context.Visit(() =>
            {
                owner = Actor.Start("owner", () =>
                {
                    context.Enter();
                    batches++;
                    context.Leave();
                });
                end.Wait(TestContext.Current.CancellationToken);
            }));
            Actor.Until(() => Volatile.Read(ref owner) is not null, "the visit began");
            owner.UntilItWaitsFor("visitor of context visited");
            int seen = -1;
            Actor second = Actor.Start("second", () => context.Visit(() => seen = batches));
            second.UntilItWaitsFor("visit of context visited");
            end.Set();
            first.Join();
            second.Join();
            owner.Join();
            Assert.Equal(1, seen);
        }
    }

    [Fact]
    public void T14_a_batch_that_begins_at_the_very_moment_of_a_visit_either_waits_or_is_waited_for()
    {
        const int Rounds = 60_000;
        IoContext[] contexts = [new("even"), new("odd")];
        int go = -1;
        int done = -1;
        int inside = 0;
        int broken = 0;

        // Both sides store, then load: each pair may pass each other in the processor. Only the visitor's barrier keeps them apart.
        Actor owner = Actor.Start("owner", () =>
        {
            for (int i = 0; i < Rounds; i++)
            {
                IoContext context = contexts[i & 1];
                var spin = default(SpinWait);
                while (Volatile.Read(ref go) < i)
                    spin.SpinOnce(-1);
                context.Enter();
                Volatile.Write(ref inside, 1);
                Thread.SpinWait(20);
                Volatile.Write(ref inside, 0);
                context.Leave();
                Volatile.Write(ref done, i);
            }
        });
        for (int i = 0; i < Rounds; i++)
        {
            IoContext context = contexts[i & 1];
            Volatile.Write(ref go, i);

            // Until the owner has seen it takes some ten nanoseconds, more or less: in small steps, so that some rounds begin on both sides at once.
            for (int step = i % 400; step > 0; step--)
                _ = Volatile.Read(ref broken);
            context.Visit(() =>
            {
                for (int look = 0; look < 40; look++)
                    broken += Volatile.Read(ref inside);
            });
            var spin = default(SpinWait);
            while (Volatile.Read(ref done) < i && !owner.IsDone)
                spin.SpinOnce(-1);
        }

        owner.Join();
        foreach (IoContext context in contexts)
            context.Dispose();
        Assert.Equal(0, broken);
    }

    [Fact]
    public void T14_a_visitor_waits_for_the_batch_of_the_owner_and_the_owner_for_the_visitor()
    {
        using var context = new IoContext("turns");
        context.Enter();
        using var letGo = new ManualResetEventSlim();
        bool visiting = false;
        Actor visitor = Actor.Start("visitor", () => context.Visit(() =>
        {
            Volatile.Write(ref visiting, true);
            letGo.Wait(Actor.Limit, CancellationToken.None);
        }));
        visitor.UntilItWaitsFor("batch of context turns (owner");
        Assert.False(Volatile.Read(ref visiting));
        context.Leave();
        Actor.Until(() => Volatile.Read(ref visiting), "the visitor is inside");
        Actor owner = Actor.Start("owner", () =>
        {
            context.Enter();
            context.Leave();
        });
        owner.UntilItWaitsFor("visitor of context turns");
        letGo.Set();
        owner.Join();
        visitor.Join();
    }

    [Fact]
    public void T14_an_owner_that_is_idle_or_the_visitor_itself_is_not_waited_for()
    {
        using var context = new IoContext("idle");
        int polled = 0;
        var pollable = new Pollable(() => polled++);
        context.AddPollable(pollable);
        context.ReapAsVisitor();
        context.Enter();
        context.Leave();
        context.ReapAsVisitor();
        Assert.Equal(2, polled);
        context.RemovePollable(pollable);
        context.ReapAsVisitor();
        Assert.Equal(2, polled);
    }

    [Fact]
    public void T14_a_visit_tells_the_time_anew_because_the_owners_last_batch_may_be_long_ago()
    {
        using var context = new IoContext("clock");
        typeof(IoContext).GetProperty(nameof(IoContext.Now))!.SetValue(context, long.MinValue);
        long before = Environment.TickCount64;
        long inside = 0;
        context.Visit(() => inside = context.Now);
        Assert.InRange(inside, before, Environment.TickCount64);
        typeof(IoContext).GetProperty(nameof(IoContext.Now))!.SetValue(context, long.MinValue);
        context.AddPollable(new Pollable(() => inside = context.Now));
        context.ReapAsVisitor();
        Assert.InRange(inside, before, Environment.TickCount64);
    }

    [Fact]
    public void T14_a_visit_within_a_visit_of_the_same_context_is_refused()
    {
        using var context = new IoContext("nested");
        DmaBufIoException? refused = null;
        context.Visit(() => refused = Assert.Throws<DmaBufIoException>(() => context.Visit(static () => { })));
        Assert.Equal(Errno.EDEADLK, refused!.Errno);
        context.Visit(static () => { });
    }

    [Fact]
    public void T15_inside_a_batch_and_inside_a_visit_the_thread_may_not_sleep_and_outside_it_may()
    {
        using var context = new IoContext("nosleep");
        Assert.False(NoSleepContext.IsActive);
        context.Enter();
        Assert.True(NoSleepContext.IsActive && context.IsActive);
        context.Leave();
        Assert.False(NoSleepContext.IsActive || context.IsActive);
        bool inside = false;
        context.Visit(() => inside = NoSleepContext.IsActive);
        Assert.True(inside);
        Assert.False(NoSleepContext.IsActive);
    }

    [Fact]
    public void A_context_is_not_entered_twice()
    {
        using var context = new IoContext("twice");
        context.Enter();
        Assert.Throws<InvalidOperationException>(context.Enter);
        context.Leave();
        context.Enter();
        context.Leave();
    }

    [Fact]
    public void A_living_context_has_a_slot_of_its_own_and_a_disposed_ones_slot_is_used_again()
    {
        IoContext[] contexts = [.. Enumerable.Range(0, 20).Select(static i => new IoContext($"many{i}"))];
        Assert.Equal(20, contexts.Select(static c => c.Slot).Distinct().Count());
        Assert.True(contexts.Max(static c => c.Slot) < ContextTable.Slots);
        Assert.All(contexts, static c => Assert.Contains(c, ContextTable.Living()));
        foreach (IoContext context in contexts)
            context.Dispose();
        Assert.DoesNotContain(contexts[5], ContextTable.Living());
    }

    private sealed class Pollable(Action poll) : IPollable
    {
        public void PollAsVisitor() => poll();
    }
}
