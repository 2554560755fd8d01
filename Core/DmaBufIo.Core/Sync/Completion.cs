using DmaBufIo.Errors;

namespace DmaBufIo.Sync;

/// <summary>Something that happens once (the kernel's struct completion).</summary>
public sealed class Completion
{
    private readonly WaitQueue _queue = new();
    private volatile bool _done;

    /// <summary>True once it has happened.</summary>
    public bool IsDone => _done;

    /// <summary>It has happened: lets all waiters go, now and later. Idempotent; callable from completion context.</summary>
    public void Complete()
    {
        _done = true;
        _queue.WakeAll();
    }

    /// <summary>Waits until it has happened.</summary>
    /// <param name="reason">What is waited for, for snapshots.</param>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <param name="slice">When given, the wait also ends after this time.</param>
    /// <returns><c>Ok</c>, <c>EINTR</c> when cancelled, <c>EAGAIN</c> when the slice has passed.</returns>
    public Errno Wait(in WaitReason reason, CancellationToken cancellationToken = default, TimeSpan? slice = null) =>
        _queue.Wait(() => _done, reason, cancellationToken, null, slice);

    /// <summary>Waits a little, as part of a longer wait of a thread that drives others' queues meanwhile.</summary>
    internal Errno Wait(ref PollingWait wait, CancellationToken cancellationToken) => wait.Pause(_queue, () => _done, cancellationToken);
}
