using System.Runtime.CompilerServices;
using DmaBufIo.Diagnostics;

namespace DmaBufIo.Fixtures.HotPathWorkload;

/// <summary>
/// Marked methods that break the promise of the mark, each in one way, and one that keeps it: the check must tell them apart.
/// </summary>
internal static class Mutants
{
    private static readonly Lock s_lock = new();
    private static readonly object s_monitor = new();
    private static long s_shared;
    private static object? s_kept;
    private static readonly Target s_quiet = new();
    private static readonly Target s_counting = new CountingTarget();
    private static int s_neverRun;

    internal static long Run(int count)
    {
        long sum = 0;
        for (int i = 0; i < count; i++)
            sum += Once(i);
        return sum;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static long Once(int value)
    {
        Increment();
        Swap(value);
        Fence();
        TakeLock(value);
        TakeMonitor(value);
        Allocate(value);
        IncrementWhenRare(value);
        InlinedIncrementUser();
        CallsVirtual(value % 3 == 0 ? s_quiet : s_counting);
        return Clean(value) + CallsUnmarked(value) + ThrowsOnly(value) + Box(value) + AllocatesInHandler(value);
    }

    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static long Clean(int value)
    {
        s_shared = Volatile.Read(ref s_shared) + value;
        return s_shared;
    }

    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Increment() => Interlocked.Increment(ref s_shared);

    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Swap(int value) => Interlocked.Exchange(ref s_shared, value);

    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Fence() => Interlocked.MemoryBarrier();

    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void TakeLock(int value)
    {
        lock (s_lock)
            s_shared += value;
    }

    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void TakeMonitor(int value)
    {
        lock (s_monitor)
            s_shared += value;
    }

    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Allocate(int value) => s_kept = new long[value & 7];

    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Box(int value)
    {
        s_kept = value;
        return value;
    }

    // The block is never reached: an instruction that must not be there is found all the same.
    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void IncrementWhenRare(int value)
    {
        if (value < 0)
            Interlocked.Increment(ref s_neverRun);
    }

    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int CallsUnmarked(int value) => Unmarked(value) + 1;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Unmarked(int value)
    {
        s_kept = new long[2];
        return value;
    }

    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void CallsVirtual(Target target) => target.Touch();

    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal static void NeverCalled() => s_neverRun++;

    // No breach: the handler runs when something was thrown, and nothing is.
    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int AllocatesInHandler(int value)
    {
        try
        {
            return Clean(value) >= 0 ? value : value + 1;
        }
        catch (InvalidOperationException)
        {
            s_kept = new long[3];
            return 0;
        }
    }

    // No breach: what allocates is only reached to throw.
    [HotPath]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int ThrowsOnly(int value) => value >= 0 ? value : throw new ArgumentOutOfRangeException(nameof(value));

    // Has no body of its own: the breach is in the method that it was inlined into, which has no mark.
    [HotPath]
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void InlinedIncrement() => Interlocked.Add(ref s_shared, 3);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void InlinedIncrementUser() => InlinedIncrement();

    private class Target
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        internal virtual void Touch() => s_shared = 0;
    }

    private sealed class CountingTarget : Target
    {
        [MethodImpl(MethodImplOptions.NoInlining)]
        internal override void Touch() => Interlocked.Increment(ref s_shared);
    }
}
