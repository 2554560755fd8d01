using DmaBufIo.Errors;

namespace DmaBufIo.Sync;

/// <summary>
/// Marks the stretches of the request path on which a thread may not sleep: it runs completions, or it holds map references that an
/// invalidation may be waiting for (T8, T10, T15). Every blocking primitive of Sync asks it, also when it would not block.
/// </summary>
/// <remarks>Entered once per batch, not per request. A thread-static depth: sections nest.</remarks>
public static class NoSleepContext
{
    [ThreadStatic]
    private static int s_depth;

    /// <summary>True while the current thread may not sleep.</summary>
    public static bool IsActive => s_depth != 0;

    /// <summary>Throws when the current thread may not sleep.</summary>
    /// <param name="primitive">What the caller wants to wait for.</param>
    /// <exception cref="DmaBufIoException">The thread may not sleep (<c>EDEADLK</c>).</exception>
    public static void AssertMaySleep(string primitive)
    {
        if (s_depth != 0)
            Refuse(primitive);
    }

    [Diagnostics.HotPath]
    internal static void Enter() => s_depth++;

    [Diagnostics.HotPath]
    internal static void Leave() => s_depth--;

    private static void Refuse(string primitive) => throw new DmaBufIoException(
        Errno.EDEADLK,
        "Sync",
        primitive,
        $"thread '{Parker.NameOf(Thread.CurrentThread)}' runs completions or holds map references and may not sleep",
        "Queue the work on a WorkQueue and return; take locks and wait only outside the request path",
        rule: "T15");
}
