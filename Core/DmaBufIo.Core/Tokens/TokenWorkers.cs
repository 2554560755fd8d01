using DmaBufIo.Sync;

namespace DmaBufIo.Tokens;

/// <summary>The process's workers for unmapping and release. Nobody waits for them while holding a reservation lock.</summary>
internal static class TokenWorkers
{
    // As many as there can reasonably be buffers whose lock is held for long at the same time: a buffer blocks one worker (LockedWork), which costs a stack.
    private const int MaxThreads = 64;

    internal static WorkQueue Queue { get; } = new("dmabufio-unmap", MaxThreads);
}
