using System.Runtime.CompilerServices;
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
    private static NoSleepState? s_state;

    /// <summary>True while the current thread may not sleep.</summary>
    public static bool IsActive => s_state is { Depth: > 0 };

    /// <summary>Throws when the current thread may not sleep.</summary>
    /// <param name="primitive">What the caller wants to wait for.</param>
    /// <exception cref="DmaBufIoException">The thread may not sleep (<c>EDEADLK</c>).</exception>
    public static void AssertMaySleep(string primitive)
    {
        if (IsActive)
            Refuse(primitive);
    }

    /// <summary>The current thread's state. Looked up once per batch: a thread-static costs more than all else that a batch does to enter.</summary>
    internal static NoSleepState Current => s_state ?? Create();

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static NoSleepState Create() => s_state = new NoSleepState(Thread.CurrentThread);

    private static void Refuse(string primitive) => throw new DmaBufIoException(
        Errno.EDEADLK,
        "Sync",
        primitive,
        $"thread '{Parker.NameOf(Thread.CurrentThread)}' runs completions or holds map references and may not sleep",
        "Queue the work on a WorkQueue and return; take locks and wait only outside the request path",
        rule: "T15");
}

/// <summary>Whether a thread may sleep. Touched by that thread alone.</summary>
internal sealed class NoSleepState(Thread thread)
{
    /// <summary>The thread.</summary>
    internal Thread Thread { get; } = thread;

    /// <summary>Stretches that it is in: sections nest.</summary>
    internal int Depth { get; set; }
}
