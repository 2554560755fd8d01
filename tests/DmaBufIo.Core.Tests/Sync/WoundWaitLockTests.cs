using System.Reflection;
using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.Tests.SyncTests;

public sealed class WoundWaitLockTests
{
    private readonly WoundWaitLock _lock = new("first");
    private readonly WoundWaitLock _other = new("second");

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void A_free_lock_goes_to_whoever_asks_and_its_holder_is_refused()
    {
        var context = new AcquireContext();
        Assert.Equal(Errno.Ok, _lock.Lock(context, Token));
        Assert.Equal((true, true, 1), (_lock.IsHeld, _lock.IsHeldByCurrentThread, context.Held));
        Assert.Equal(Errno.EALREADY, _lock.Lock(context, Token));
        Assert.Equal(Errno.EDEADLK, _lock.Lock(null, Token));
        Assert.False(_lock.TryLock());
        _lock.Unlock();
        Assert.Equal((false, 0), (_lock.IsHeld, context.Held));
        Assert.Throws<InvalidOperationException>(_lock.Unlock);
    }

    [Fact]
    public void F5_whoever_has_no_context_waits_its_turn()
    {
        var order = new List<string>();
        Assert.Equal(Errno.Ok, _lock.Lock(null, Token));
        Actor[] actors = [.. Enumerable.Range(0, 4).Select(i =>
        {
            Actor actor = Actor.Start($"waiter{i}", () => Take(_lock, null, order, $"{i}"));
            actor.UntilItWaitsFor("lock of first");
            return actor;
        })];
        _lock.Unlock();
        Join(actors);
        Assert.Equal(["0", "1", "2", "3"], order);
    }

    [Fact]
    public void Contexts_go_by_age_among_each_other_and_the_others_keep_their_place()
    {
        AcquireContext[] contexts = [.. Enumerable.Range(0, 3).Select(static _ => new AcquireContext())];
        var order = new List<string>();
        Assert.Equal(Errno.Ok, _lock.Lock(null, Token));
        (AcquireContext? Context, string Name)[] arrivals =
            [(null, "none0"), (contexts[2], "young"), (null, "none1"), (contexts[0], "old"), (contexts[1], "middle")];
        Actor[] actors = [.. arrivals.Select(a =>
        {
            Actor actor = Actor.Start(a.Name, () => Take(_lock, a.Context, order, a.Name));
            actor.UntilItWaitsFor("lock of first");
            return actor;
        })];
        _lock.Unlock();
        Join(actors);
        Assert.Equal(["none0", "old", "middle", "young", "none1"], order);
    }

    [Fact]
    public void Unlocking_hands_over_so_that_a_late_comer_cannot_overtake()
    {
        Assert.Equal(Errno.Ok, _lock.Lock(null, Token));
        using var go = new ManualResetEventSlim();
        Actor waiter = Actor.Start("waiter", () =>
        {
            Assert.Equal(Errno.Ok, _lock.Lock(null, Token));
            go.Wait(Actor.Limit, CancellationToken.None);
            _lock.Unlock();
        });
        waiter.UntilItWaitsFor("lock of first");
        _lock.Unlock();

        // It is the waiter's at once, whether or not its thread has run since.
        Assert.Equal((true, false, false), (_lock.IsHeld, _lock.IsHeldByCurrentThread, _lock.TryLock()));
        go.Set();
        waiter.Join();
    }

    [Fact]
    public void F5_a_holder_without_a_context_cannot_be_wounded_and_the_oldest_context_waits_for_it()
    {
        var oldest = new AcquireContext();
        Assert.Equal(Errno.Ok, _lock.Lock(null, Token));
        Actor waiter = Actor.Start("oldest", () => Take(_lock, oldest, [], "oldest"));
        waiter.UntilItWaitsFor("lock of first");
        Assert.True(_lock.IsHeldByCurrentThread);
        _lock.Unlock();
        waiter.Join();
    }

    [Fact]
    public void An_older_context_wounds_the_holder_which_must_back_off_at_its_next_lock()
    {
        var older = new AcquireContext();
        var younger = new AcquireContext();
        Assert.Equal(Errno.Ok, _lock.Lock(younger, Token));
        Actor winner = Actor.Start("older", () => Take(_lock, older, [], "older"));
        winner.UntilItWaitsFor("lock of first");
        Assert.True(younger.MustBackOff);
        Actor blocker = Actor.Start("blocker", () =>
        {
            Assert.Equal(Errno.Ok, _other.Lock(null, Token));
            winner.Join();
            _other.Unlock();
        });
        Actor.Until(() => _other.IsHeld, "the second lock is held");
        Assert.Equal(Errno.EDEADLK, _other.Lock(younger, Token));
        _lock.Unlock();

        // Having given all back it is whole again, and as old as before.
        Assert.False(younger.MustBackOff);
        winner.Join();
        blocker.Join();
        Assert.Equal(Errno.Ok, _lock.Lock(younger, Token));
        _lock.Unlock();
    }

    [Fact]
    public void A_younger_context_waits_and_wounds_nobody()
    {
        var older = new AcquireContext();
        var younger = new AcquireContext();
        Assert.Equal(Errno.Ok, _lock.Lock(older, Token));
        Actor waiter = Actor.Start("younger", () => Take(_lock, younger, [], "younger"));
        waiter.UntilItWaitsFor("lock of first");
        Assert.False(older.MustBackOff);
        _lock.Unlock();
        waiter.Join();
    }

    [Fact]
    public void A_wounded_context_that_waits_for_another_lock_is_woken_and_backs_off()
    {
        var older = new AcquireContext();
        var younger = new AcquireContext();
        Assert.Equal(Errno.Ok, _other.Lock(older, Token));
        Actor loser = Actor.Start("younger", () =>
        {
            Assert.Equal(Errno.Ok, _lock.Lock(younger, Token));
            Assert.Equal(Errno.EDEADLK, _other.Lock(younger, Token));
            _lock.Unlock();
        });
        loser.UntilItWaitsFor("lock of second");
        Assert.Equal(Errno.Ok, _lock.Lock(older, Token));
        loser.Join();
        _lock.Unlock();
        _other.Unlock();
    }

    [Fact]
    public void A_holder_that_had_to_wait_itself_is_wounded_like_any_other()
    {
        var older = new AcquireContext();
        var younger = new AcquireContext();
        Assert.Equal(Errno.Ok, _lock.Lock(null, Token));
        Actor[] line = new Actor[3];

        line[0] = Actor.Start("contextless", () => Take(_lock, null, [], string.Empty));
        line[0].UntilItWaitsFor("lock of first");
        line[1] = Actor.Start("younger", () =>
        {
            Assert.Equal(Errno.Ok, _lock.Lock(younger, Token));
            line[2] = Actor.Start("older", () => Take(_lock, older, [], "older"));
            Actor.Until(() => younger.MustBackOff, "the holder is wounded by the older waiter");
            _lock.Unlock();
        });
        line[1].UntilItWaitsFor("lock of first");
        _lock.Unlock();
        Join(line[..2]);
        line[2].Join();
        Assert.False(younger.MustBackOff);
    }

    [Fact]
    public void A_cancelled_waiter_leaves_the_line_and_the_next_one_gets_the_lock()
    {
        Assert.Equal(Errno.Ok, _lock.Lock(null, Token));
        using var cancel = new CancellationTokenSource();
        Actor cancelled = Actor.Start("cancelled", () => Assert.Equal(Errno.EINTR, _lock.Lock(null, cancel.Token)));
        cancelled.UntilItWaitsFor("lock of first");
        Actor next = Actor.Start("next", () => Take(_lock, null, [], "next"));
        next.UntilItWaitsFor("lock of first");
        cancel.Cancel();
        cancelled.Join();
        _lock.Unlock();
        next.Join();
        Assert.False(_lock.IsHeld);
    }

    [Fact]
    public void A_waiter_whose_wait_throws_leaves_the_line_and_the_next_one_gets_the_lock()
    {
        Assert.Equal(Errno.Ok, _lock.Lock(null, Token));
        Actor thrown = Actor.Start("thrown", () => Assert.Throws<ThreadInterruptedException>(() => _lock.Lock(null, Token)));
        thrown.UntilItWaitsFor("lock of first");
        Actor next = Actor.Start("next", () => Take(_lock, null, [], "next"));
        next.UntilItWaitsFor("lock of first");
        thrown.Interrupt();
        thrown.Join();
        _lock.Unlock();
        next.Join();
        Assert.False(_lock.IsHeld);
    }

    [Fact]
    public void A_cancellation_that_races_with_the_hand_over_either_has_the_lock_or_has_not()
    {
        int got = 0;
        for (int round = 0; round < 100; round++)
        {
            Assert.Equal(Errno.Ok, _lock.Lock(null, Token));
            using var cancel = new CancellationTokenSource();
            using var both = new Barrier(2);
            Actor waiter = Actor.Start("racer", () =>
            {
                Errno status = _lock.Lock(null, cancel.Token);
                Assert.Equal(status == Errno.Ok, _lock.IsHeldByCurrentThread);
                if (status == Errno.Ok)
                {
                    got++;
                    _lock.Unlock();
                }
            });
            Actor canceller = Actor.Start("canceller", () =>
            {
                both.SignalAndWait(Actor.Limit, CancellationToken.None);
                cancel.Cancel();
            });
            both.SignalAndWait(Actor.Limit, CancellationToken.None);
            _lock.Unlock();
            waiter.Join();
            canceller.Join();
            Assert.False(_lock.IsHeld);
        }

        Assert.InRange(got, 0, 100);
    }

    [Fact]
    public void A_grant_that_comes_after_the_wait_gave_up_counts_all_the_same()
    {
        // The waiter is stopped between its decision to give up and its leaving the line: there it takes the wait queue's lock, which this
        // thread holds.
        object queue = Field(_lock, "_queue");
        var queueLock = (Lock)Field(queue, "_lock");
        using var cancel = new CancellationTokenSource();
        Parker? parker = null;
        bool held = false;
        Assert.Equal(Errno.Ok, _lock.Lock(null, Token));
        Actor waiter = Actor.Start("late", () =>
        {
            parker = Parker.Current;
            Assert.Equal(Errno.Ok, _lock.Lock(null, cancel.Token));
            held = _lock.IsHeldByCurrentThread;
            _lock.Unlock();
        });
        waiter.UntilItWaitsFor("lock of first");
        Actor.Until(() => !(bool)Field(parker!, "_permit") && waiter.IsBlocked, "the waiter is parked");
        lock (queueLock)
        {
            cancel.Cancel();
            Actor.Until(() => !(bool)Field(parker!, "_permit") && waiter.IsBlocked, "the waiter has given up");
            _lock.Unlock();
        }

        waiter.Join();
        Assert.Equal((true, false), (held, _lock.IsHeld));
    }

    [Fact]
    public void Many_threads_that_lock_many_objects_in_any_order_all_get_through()
    {
        WoundWaitLock[] locks = [.. Enumerable.Range(0, 5).Select(static i => new WoundWaitLock($"object {i}"))];
        int[] inside = new int[locks.Length];
        int[] done = new int[4];
        Actor[] actors = [.. Enumerable.Range(0, done.Length).Select(actor => Actor.Start("locker", () =>
        {
            var random = new Random(actor);
            for (int round = 0; round < 500; round++)
            {
                int[] order = [.. Enumerable.Range(0, locks.Length)];
                random.Shuffle(order);
                var context = new AcquireContext();
                while (!TryAll(locks, order.AsSpan(0, 3), context, inside))
                {
                }

                done[actor]++;
            }
        }))];
        Join(actors);
        Assert.All(done, static d => Assert.Equal(500, d));
        Assert.All(locks, static l => Assert.False(l.IsHeld));
    }

    private static object Field(object of, string name) =>
        of.GetType().GetField(name, BindingFlags.Instance | BindingFlags.NonPublic)!.GetValue(of)!;

    private static bool TryAll(WoundWaitLock[] locks, ReadOnlySpan<int> order, AcquireContext context, int[] inside)
    {
        int taken = 0;
        while (taken < order.Length && locks[order[taken]].Lock(context, Token) == Errno.Ok)
            taken++;
        bool all = taken == order.Length;
        if (all)
        {
            foreach (int index in order)
                Assert.Equal(1, Interlocked.Increment(ref inside[index]));
            foreach (int index in order)
                Interlocked.Decrement(ref inside[index]);
        }

        while (taken > 0)
            locks[order[--taken]].Unlock();
        return all;
    }

    private static void Take(WoundWaitLock target, AcquireContext? context, List<string> order, string name)
    {
        Assert.Equal(Errno.Ok, target.Lock(context, Token));
        order.Add(name);
        target.Unlock();
    }

    private static void Join(Actor[] actors)
    {
        foreach (Actor actor in actors)
            actor.Join();
    }
}
