using System.Runtime.CompilerServices;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.Tests.SyncTests;

/// <summary>Parker, WaitQueue, Completion and SleepingMutex.</summary>
public sealed class WaitingTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void A_permit_given_early_is_not_lost()
    {
        var queue = new WaitQueue();
        bool ready = false;

        // The state changes and the wake comes before anyone waits; and a permit left over from elsewhere only makes a waiter look again.
        Parker.Current.Unpark();
        Parker.Current.Unpark();
        Actor waker = Actor.Start("waker", () =>
        {
            Volatile.Write(ref ready, true);
            queue.WakeAll();
        });
        Assert.Equal(Errno.Ok, queue.Wait(() => Volatile.Read(ref ready), new WaitReason("early"), Token));
        waker.Join();
    }

    [Fact]
    public void A_thread_has_one_parker_and_it_knows_the_threads_name()
    {
        Parker? seen = null;
        Actor actor = Actor.Start("named", () =>
        {
            seen = Parker.Current;
            Assert.Same(seen, Parker.Current);
        });
        actor.Join();
        Assert.NotSame(seen, Parker.Current);
        Assert.Equal(actor.Name, seen!.ThreadName);
    }

    [Fact]
    public void A_spurious_wake_up_does_not_end_a_wait()
    {
        var queue = new WaitQueue();
        bool ready = false;
        Actor waiter = Actor.Start("waiter",
            () => Assert.Equal(Errno.Ok, queue.Wait(() => Volatile.Read(ref ready), new WaitReason("spurious"), Token)));
        waiter.UntilItWaitsFor("spurious");
        for (int i = 0; i < 100; i++)
            queue.WakeAll();
        waiter.UntilItWaitsFor("spurious");
        Volatile.Write(ref ready, true);
        queue.WakeAll();
        waiter.Join();
    }

    [Fact]
    public void A_condition_that_holds_comes_before_a_cancellation_and_a_cancellation_before_waiting()
    {
        var queue = new WaitQueue();
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Assert.Equal(Errno.Ok, queue.Wait(static () => true, new WaitReason("c"), cancelled.Token));
        Assert.Equal(Errno.EINTR, queue.Wait(static () => false, new WaitReason("c"), cancelled.Token));
        Assert.Equal(Errno.EAGAIN, queue.Wait(static () => false, new WaitReason("c"), Token, null, TimeSpan.FromMilliseconds(2)));
    }

    [Fact]
    public void A_cancellation_ends_a_wait_that_has_begun()
    {
        var queue = new WaitQueue();
        using var cancel = new CancellationTokenSource();
        Actor waiter = Actor.Start("waiter",
            () => Assert.Equal(Errno.EINTR, queue.Wait(static () => false, new WaitReason("cancelled"), cancel.Token)));
        waiter.UntilItWaitsFor("cancelled");
        cancel.Cancel();
        waiter.Join();
    }

    [Fact]
    public void A_pause_of_less_than_a_millisecond_sleeps_and_does_not_look_again_and_again()
    {
        var queue = new WaitQueue();
        Actor waiter = Actor.Start("waiter", () =>
        {
            for (int i = 0; i < 50; i++)
            {
                int looks = 0;
                bool Look()
                {
                    looks++;
                    return false;
                }

                // Before it joins the queue, after it, and when it has slept. However slow the machine is, there are not more.
                Assert.Equal(Errno.EAGAIN, queue.Wait(Look, new WaitReason("pause"), Token, null, TimeSpan.FromMicroseconds(500)));
                Assert.InRange(looks, 1, 3);
            }
        });
        waiter.Join();
    }

    [Fact]
    public void A_thread_that_has_waited_does_not_keep_what_it_waited_for()
    {
        Collected.AssertGone(WaitOnce(), "what was waited for");
        GC.KeepAlive(Parker.Current);
    }

    [Fact]
    public void No_wake_up_is_lost_between_threads_that_take_turns()
    {
        const int Turns = 3000;
        var queue = new WaitQueue();
        int turn = 0;
        void Play(int player)
        {
            for (int i = player; i < Turns; i += 3)
            {
                Assert.Equal(Errno.Ok, queue.Wait(() => Volatile.Read(ref turn) == i, new WaitReason("turn"), Token));
                Volatile.Write(ref turn, i + 1);
                queue.WakeAll();
            }
        }

        Actor[] players = [.. Enumerable.Range(0, 3).Select(p => Actor.Start("player", () => Play(p)))];
        foreach (Actor player in players)
            player.Join();
        Assert.Equal(Turns, turn);
    }

    [Fact]
    public void Waking_allocates_nothing()
    {
        var queue = new WaitQueue();
        Actor waiter = Actor.Start("waiter",
            () => queue.Wait(static () => false, new WaitReason("allocation"), Token, null, TimeSpan.FromMilliseconds(50)));
        waiter.UntilItWaitsFor("allocation");
        queue.WakeAll();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++)
            queue.WakeAll();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        waiter.Join();
    }

    [Fact]
    public void An_idle_worker_is_not_shown_as_waiting()
    {
        using var queue = new WorkQueue("idler", 1);
        Assert.True(queue.Flush(Token));
        Assert.DoesNotContain(DmaBufIoDiagnostics.Snapshot().Waits, static w => w.Thread.StartsWith("idler/", StringComparison.Ordinal));
    }

    [Fact]
    public void A_completion_lets_everyone_go_now_and_later()
    {
        var completion = new Completion();
        Assert.False(completion.IsDone);
        Actor[] waiters = [.. Enumerable.Range(0, 3).Select(i =>
            Actor.Start("waiter", () => Assert.Equal(Errno.Ok, completion.Wait(new WaitReason("completion"), Token))))];
        foreach (Actor waiter in waiters)
            waiter.UntilItWaitsFor("completion");
        completion.Complete();
        completion.Complete();
        foreach (Actor waiter in waiters)
            waiter.Join();
        Assert.Equal(Errno.Ok, completion.Wait(new WaitReason("completion"), Token));
    }

    [Fact]
    public void A_sleeping_mutex_excludes_refuses_its_holder_and_is_given_back_by_its_holder_only()
    {
        var mutex = new SleepingMutex("mutex");
        Assert.Equal(Errno.Ok, mutex.Lock(Token));
        Assert.Equal(Errno.EDEADLK, mutex.Lock(Token));
        using var cancel = new CancellationTokenSource();
        Actor other = Actor.Start("other", () =>
        {
            Assert.Throws<InvalidOperationException>(mutex.Unlock);
            Assert.Equal(Errno.EINTR, mutex.Lock(cancel.Token));
        });
        other.UntilItWaitsFor("mutex (held by");
        cancel.Cancel();
        other.Join();
        Actor next = Actor.Start("next", () =>
        {
            Assert.Equal(Errno.Ok, mutex.Lock(Token));
            mutex.Unlock();
        });
        next.UntilItWaitsFor("mutex (held by");
        mutex.Unlock();
        next.Join();
        Assert.False(mutex.IsHeld);
    }

    [Fact]
    public void A_sleeping_mutex_lets_one_thread_in_at_a_time()
    {
        var mutex = new SleepingMutex("counted");
        int inside = 0;
        int total = 0;
        Actor[] actors = [.. Enumerable.Range(0, 4).Select(i => Actor.Start("counter", () =>
        {
            for (int round = 0; round < 2000; round++)
            {
                Assert.Equal(Errno.Ok, mutex.Lock(Token));
                Assert.Equal(1, Interlocked.Increment(ref inside));
                total++;
                Interlocked.Decrement(ref inside);
                mutex.Unlock();
            }
        }))];
        foreach (Actor actor in actors)
            actor.Join();
        Assert.Equal(8000, total);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static WeakReference WaitOnce()
    {
        object thing = new();
        var reason = new WaitReason("thing", () => thing.ToString()!);
        Assert.Equal(Errno.EAGAIN, new WaitQueue().Wait(static () => false, reason, Token, null, TimeSpan.Zero));
        return new WeakReference(thing);
    }
}
