using System.Runtime.CompilerServices;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Sync;
using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests.DmaBufTests;

public sealed class DmaFenceTests
{
    [Fact]
    public void A_fence_signals_once_and_calls_back_once()
    {
        var fence = new DmaFence("test", DmaFence.NewContext(), 1);
        int calls = 0;
        fence.OnSignal(() => calls++);
        fence.OnSignal(() => calls++);
        fence.Signal();
        fence.Signal();
        Assert.Equal((2, true), (calls, fence.IsSignaled));
        fence.OnSignal(() => calls++);
        Assert.Equal(3, calls);
    }

    [Fact]
    public void A_wait_ends_with_the_signal_with_cancellation_or_when_its_context_is_wounded()
    {
        var fence = new DmaFence("test", DmaFence.NewContext(), 1);
        var young = new AcquireContext();
        Assert.True(young.Stamp > 0);
        using var interrupt = new CancellationTokenSource();
        interrupt.Cancel();
        Assert.Equal(Errno.EINTR, fence.Wait(interrupt.Token));
        var ends = new Errno[1];
        Actor waiter = Actor.Start("waiter", () => ends[0] = fence.Wait(TestContext.Current.CancellationToken));
        waiter.UntilItWaitsFor("fence test");
        fence.Signal();
        waiter.Join();
        Assert.Equal(Errno.Ok, ends[0]);
    }

    [Fact]
    public void A_wait_under_a_lock_ends_when_an_older_context_wants_the_lock()
    {
        var fence = new DmaFence("never", DmaFence.NewContext(), 1);
        var reservation = new ReservationObject("wounded");
        var older = new AcquireContext();
        var end = Errno.Ok;
        Actor waiter = Actor.Start("waiter", () =>
        {
            var younger = new AcquireContext();
            using ReservationGuard guard = reservation.Hold(younger);
            end = fence.Wait(TestContext.Current.CancellationToken, younger);
        });
        waiter.UntilItWaitsFor("fence never");
        using (reservation.Hold(older))
            waiter.Join();
        Assert.Equal(Errno.EDEADLK, end);
    }

    [Fact]
    public void A_fence_that_has_signalled_does_not_keep_what_its_waiters_were_to_drive()
    {
        // As in a reservation object, where a signalled fence stays until another one takes its place.
        (DmaFence fence, WeakReference driven) = SignalledFence();
        Collected.AssertGone(driven, "what a waiter was to drive");
        Assert.Equal(Errno.Ok, fence.Wait(TestContext.Current.CancellationToken));
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static (DmaFence Fence, WeakReference Driven) SignalledFence()
    {
        object driven = new();
        var fence = new DmaFence("test", DmaFence.NewContext(), 1, () => GC.KeepAlive(driven));
        fence.Signal();
        return (fence, new WeakReference(driven));
    }
}
