using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests;

/// <summary>
/// Asks the collector what is still reachable. The object is made and used in a method of its own that is not inlined, or a local of the
/// test's frame would keep it.
/// </summary>
internal static class Collected
{
    internal static void AssertGone(WeakReference weak, string what) => Actor.Until(
        () =>
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            return !weak.IsAlive;
        },
        $"{what} is collected");
}
