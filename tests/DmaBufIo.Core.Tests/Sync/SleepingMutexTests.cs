using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.Tests.SyncTests;

public sealed class SleepingMutexTests
{
    [Fact]
    public void Threads_that_give_it_back_and_take_it_again_at_once_exclude_each_other_and_let_others_in()
    {
        var mutex = new SleepingMutex("contended");
        int inside = 0;
        long plain = 0; // whoever is inside may use plain fields
        bool stop = false;
        Actor[] greedy = [.. Enumerable.Range(0, 2).Select(_ => Actor.Start("greedy", () =>
        {
            while (!Volatile.Read(ref stop))
                Once();
        }))];
        Actor patient = Actor.Start("patient", () =>
        {
            for (int i = 0; i < 200; i++)
                Once();
        });
        patient.Join();
        Volatile.Write(ref stop, true);
        foreach (Actor actor in greedy)
            actor.Join();
        Assert.True(plain >= 200);
        Assert.False(mutex.IsHeld);
        Assert.True(mutex.TryLock());
        mutex.Unlock();

        void Once()
        {
            Assert.Equal(Errno.Ok, mutex.Lock());
            Assert.Equal(1, Interlocked.Increment(ref inside));
            plain++;
            Interlocked.Decrement(ref inside);
            mutex.Unlock();
        }
    }

    [Fact]
    public void A_thread_that_holds_it_gets_EDEADLK_and_one_that_is_cancelled_leaves_it_to_the_others()
    {
        var mutex = new SleepingMutex("cancelled");
        Assert.Equal(Errno.Ok, mutex.Lock(TestContext.Current.CancellationToken));
        Assert.Equal(Errno.EDEADLK, mutex.Lock(TestContext.Current.CancellationToken));
        using var cancel = new CancellationTokenSource();
        Errno first = Errno.Ok;
        Errno second = Errno.EIO;
        Actor cancelled = Actor.Start("cancelled", () => first = mutex.Lock(cancel.Token));
        Actor other = Actor.Start("other", () =>
        {
            second = mutex.Lock();
            mutex.Unlock();
        });
        cancelled.UntilItWaitsFor("cancelled");
        other.UntilItWaitsFor("cancelled");
        cancel.Cancel();
        cancelled.Join();
        mutex.Unlock();
        other.Join();
        Assert.Equal((Errno.EINTR, Errno.Ok), (first, second));
    }
}
