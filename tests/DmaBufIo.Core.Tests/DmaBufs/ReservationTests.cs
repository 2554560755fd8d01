using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Sync;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tests.TokenTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.DmaBufTests;

public sealed class ReservationTests
{
    private readonly ReservationObject _object = new($"object {Guid.NewGuid():N}");

    [Fact]
    public void F1_a_fence_is_added_only_to_a_reserved_slot()
    {
        DmaFence fence = Fence();
        using ReservationGuard guard = _object.Hold();
        DmaBufIoException? refused = TryAdd(guard, fence);
        Assert.Equal((Errno.EINVAL, "F1"), (refused?.Errno, refused?.Rule));
        _object.Reserve(guard.Held, 1);
        Assert.Null(TryAdd(guard, fence));
        Assert.NotNull(TryAdd(guard, Fence()));
        fence.Signal();
    }

    [Fact]
    public void F1_adding_to_reserved_slots_allocates_nothing_however_many_there_are()
    {
        DmaFence[] fences = [.. Enumerable.Range(0, 100).Select(static _ => Fence())];
        using ReservationGuard guard = _object.Hold();
        _object.Reserve(guard.Held, 1);
        _object.Add(guard.Held, Fence(), FenceUsage.Read);
        _object.Reserve(guard.Held, fences.Length);
        long before = GC.GetAllocatedBytesForCurrentThread();
        foreach (DmaFence fence in fences)
            _object.Add(guard.Held, fence, FenceUsage.Read);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal(101, _object.Unsignaled(FenceUsage.Read).Count);
    }

    [Fact]
    public void F1_rooms_reserved_one_after_the_other_under_one_hold_add_up()
    {
        using ReservationGuard guard = _object.Hold();
        for (int i = 0; i < 4; i++)
            _object.Reserve(guard.Held, 3);
        for (int i = 0; i < 12; i++)
            _object.Add(guard.Held, Fence(), FenceUsage.Read);
        Assert.Equal(12, _object.Unsignaled(FenceUsage.Read).Count);
        Assert.NotNull(TryAdd(guard, Fence()));
    }

    [Fact]
    public void F1_the_room_is_lost_when_the_lock_is_given_back()
    {
        using (ReservationGuard guard = _object.Hold())
            _object.Reserve(guard.Held, 3);
        using ReservationGuard again = _object.Hold();
        Assert.NotNull(TryAdd(again, Fence()));
    }

    [Fact]
    public void F1_adding_and_reserving_need_the_lock()
    {
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => _object.Reserve(default, 1)).Errno);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => _object.Add(default, Fence(), FenceUsage.Read)).Errno);
    }

    [Theory]
    [InlineData(FenceUsage.Write, FenceUsage.Write, true)]
    [InlineData(FenceUsage.Read, FenceUsage.Write, true)]
    [InlineData(FenceUsage.Bookkeep, FenceUsage.Kernel, true)]
    [InlineData(FenceUsage.Write, FenceUsage.Read, false)]
    [InlineData(FenceUsage.Kernel, FenceUsage.Bookkeep, false)]
    public void F2_a_later_fence_of_a_context_replaces_one_of_the_same_or_a_weaker_class_and_no_stronger_one(
        FenceUsage old, FenceUsage added, bool replaced)
    {
        long context = DmaFence.NewContext();
        var first = new DmaFence("first", context, 1);
        var second = new DmaFence("second", context, 2);
        Add((first, old), (second, added));
        Assert.Equal(replaced ? [second] : [first, second], _object.Unsignaled(FenceUsage.Bookkeep));
    }

    [Fact]
    public void F2_an_earlier_fence_does_not_replace_a_later_one_and_other_contexts_are_left_alone()
    {
        long context = DmaFence.NewContext();
        var later = new DmaFence("later", context, 2);
        var earlier = new DmaFence("earlier", context, 1);
        DmaFence other = Fence();
        Add((later, FenceUsage.Write), (other, FenceUsage.Write), (earlier, FenceUsage.Write));
        Assert.Equal([later, other, earlier], _object.Unsignaled(FenceUsage.Bookkeep));
    }

    [Fact]
    public void F2_signalled_fences_make_room()
    {
        DmaFence[] fences = [.. Enumerable.Range(0, 64).Select(static _ => Fence())];
        using ReservationGuard guard = _object.Hold();
        _object.Reserve(guard.Held, fences.Length);
        foreach (DmaFence fence in fences)
            _object.Add(guard.Held, fence, FenceUsage.Read);
        foreach (DmaFence fence in fences)
            fence.Signal();
        Assert.Empty(_object.Unsignaled(FenceUsage.Bookkeep));
        long before = GC.GetAllocatedBytesForCurrentThread();
        _object.Reserve(guard.Held, fences.Length);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void F2_each_killed_map_has_a_fence_context_of_its_own_so_no_fence_is_lost()
    {
        var fenced = new TokenOptions { Design = InvalidationDesign.Fenced };
        using var first = new TokenStage(fenced);
        using var second = new TokenStage(fenced, buffer: first.Buffer, iommu: first.Iommu);
        DmaMap firstMap = first.Take();
        DmaMap secondMap = second.Take();
        Assert.Equal(new InvalidationReport(2, 2), first.Invalidate());
        IReadOnlyList<DmaFence> fences = first.Buffer.Reservation.Unsignaled(FenceUsage.Kernel);
        Assert.Equal(2, fences.Select(static f => f.Context).Distinct().Count());

        // The fence of the one that ends first is not the end of the other.
        second.Drop(secondMap);
        Actor.Until(() => first.Fences().Length == 1, "one fence has signalled");
        Assert.False(first.Buffer.Reservation.IsIdle(FenceUsage.Kernel));
        first.Drop(firstMap);
        Actor.Until(() => first.Fences().Length == 0, "both fences have signalled");
    }

    [Fact]
    public void F3_signalling_takes_no_reservation_lock_and_allocates_nothing()
    {
        DmaFence[] fences = [Fence(), Fence()];
        Add((fences[0], FenceUsage.Kernel), (fences[1], FenceUsage.Kernel));
        fences[0].Signal();
        Actor holder = Actor.Start("holder", () =>
        {
            using ReservationGuard guard = _object.Hold();
            _object.Wait(FenceUsage.Kernel, TestContext.Current.CancellationToken);
        });
        holder.UntilItWaitsFor("fence test");
        long before = GC.GetAllocatedBytesForCurrentThread();
        fences[1].Signal();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        holder.Join();
    }

    [Theory]
    [InlineData(InvalidationDesign.Fenced)]
    public void F4_the_fence_of_a_killed_map_signals_while_the_lock_is_held(InvalidationDesign design)
    {
        using var stage = new TokenStage(new TokenOptions { Design = design });
        DmaMap map = stage.Take();
        Actor exporter = Actor.Start("exporter", () =>
        {
            using ReservationGuard guard = stage.Buffer.Reservation.Hold();
            stage.Buffer.InvalidateMappings(guard.Held);
            stage.Buffer.Reservation.Wait(FenceUsage.Bookkeep, TestContext.Current.CancellationToken);
        });
        exporter.UntilItWaitsFor("fence map");
        Assert.Equal(exporter.Name, stage.LockState().Holder);
        stage.Drop(map);
        exporter.Join();
    }

    [Theory]
    [InlineData(FenceUsage.Kernel, new[] { true, true, true, true })]
    [InlineData(FenceUsage.Write, new[] { false, true, true, true })]
    [InlineData(FenceUsage.Read, new[] { false, false, true, true })]
    [InlineData(FenceUsage.Bookkeep, new[] { false, false, false, true })]
    public void F4_waiting_for_a_class_waits_for_it_and_the_classes_before_it(FenceUsage usage, bool[] waitedForBy)
    {
        DmaFence fence = Fence();
        Add((fence, usage));
        foreach (FenceUsage wait in Enum.GetValues<FenceUsage>())
        {
            bool waits = waitedForBy[(int)wait];
            Assert.Equal(!waits, _object.IsIdle(wait));
            Assert.Equal(waits ? 1 : 0, _object.Unsignaled(wait).Count);
            using var interrupt = new CancellationTokenSource();
            interrupt.Cancel();
            Assert.Equal(waits ? Errno.EINTR : Errno.Ok, _object.Wait(wait, interrupt.Token));
        }

        fence.Signal();
        Assert.Equal(Errno.Ok, _object.Wait(FenceUsage.Bookkeep, TestContext.Current.CancellationToken));
    }

    [Fact]
    public void F4_a_wait_covers_fences_that_are_added_while_it_waits()
    {
        DmaFence first = Fence();
        var late = new DmaFence("late", DmaFence.NewContext(), 1);
        Add((first, FenceUsage.Kernel));
        Actor waiter = Actor.Start("waiter", () => _object.Wait(FenceUsage.Kernel, TestContext.Current.CancellationToken));
        waiter.UntilItWaitsFor("fence test");
        using (ReservationGuard guard = _object.Hold())
        {
            _object.Reserve(guard.Held, 1);
            _object.Add(guard.Held, late, FenceUsage.Kernel);
            first.Signal();
        }

        waiter.UntilItWaitsFor("fence late");
        late.Signal();
        waiter.Join();
    }

    [Fact]
    public void F5_two_objects_locked_without_a_context_in_different_orders_deadlock_and_with_contexts_they_do_not()
    {
        var other = new ReservationObject($"other {Guid.NewGuid():N}");
        using var interrupt = new CancellationTokenSource();
        using var both = new Barrier(2);
        Errno[] ends = new Errno[2];

        void Contextless(int index, ReservationObject first, ReservationObject second)
        {
            using ReservationGuard guard = first.Hold();
            both.SignalAndWait(Actor.Limit, CancellationToken.None);
            ends[index] = second.TryLock(out ReservationGuard inner, null,
                index == 0 ? interrupt.Token : TestContext.Current.CancellationToken);
            if (ends[index] == Errno.Ok)
                inner.Dispose();
        }

        Actor one = Actor.Start("one", () => Contextless(0, _object, other));
        Actor two = Actor.Start("two", () => Contextless(1, other, _object));
        one.UntilItWaitsFor(other.Name);
        two.UntilItWaitsFor(_object.Name);

        // Each holds what the other waits for, and neither can be wounded: only an interruption of one of them ends it.
        Assert.Equal((one.Name, two.Name), (Lock(_object).Holder, Lock(other).Holder));
        interrupt.Cancel();
        one.Join();
        two.Join();
        Assert.Equal([Errno.EINTR, Errno.Ok], ends);

        int backedOff = 0;
        void WithContext(ReservationObject first, ReservationObject second)
        {
            var context = new AcquireContext();
            bool met = false;
            while (!TryBoth(first, second, context, met ? null : both))
            {
                met = true;
                Interlocked.Increment(ref backedOff);
            }
        }

        Actor three = Actor.Start("three", () => WithContext(_object, other));
        Actor four = Actor.Start("four", () => WithContext(other, _object));
        three.Join();
        four.Join();
        Assert.Equal((1, false), (backedOff, _object.IsLocked || other.IsLocked));
    }

    private static bool TryBoth(ReservationObject first, ReservationObject second, AcquireContext context, Barrier? meet)
    {
        using ReservationGuard guard = first.Hold(context);
        meet?.SignalAndWait(Actor.Limit, CancellationToken.None);
        if (second.TryLock(out ReservationGuard inner, context, TestContext.Current.CancellationToken) != Errno.Ok)
            return false;
        inner.Dispose();
        return true;
    }

    private static LockState Lock(ReservationObject reservation) =>
        DmaBufIoDiagnostics.Snapshot().Locks.Single(l => l.Buffer == reservation.Name);

    private static DmaFence Fence() => new("test", DmaFence.NewContext(), 1);

    private DmaBufIoException? TryAdd(in ReservationGuard guard, DmaFence fence)
    {
        try
        {
            _object.Add(guard.Held, fence, FenceUsage.Read);
            return null;
        }
        catch (DmaBufIoException refused)
        {
            return refused;
        }
    }

    private void Add(params ReadOnlySpan<(DmaFence Fence, FenceUsage Usage)> fences)
    {
        using ReservationGuard guard = _object.Hold();
        _object.Reserve(guard.Held, fences.Length);
        foreach ((DmaFence fence, FenceUsage usage) in fences)
            _object.Add(guard.Held, fence, usage);
    }
}
