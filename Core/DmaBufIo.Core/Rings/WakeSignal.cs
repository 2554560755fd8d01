using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.Rings;

/// <summary>
/// What a ring's thread sleeps on: raised by interrupt handlers and by visitors that ended requests in the owner's place.
/// </summary>
/// <remarks>
/// Protocol against lost wake-ups.
/// <code>
///   owner:   raised = 0 (exchange)        device:   posts the completion
///            looks at all queues          handler:  raised = 1 (exchange); was 0: wakes the waiters
///            nothing: waits for raised = 1
/// </code>
/// Both exchanges are full fences on one variable, so they have an order. If the handler's comes first, the completion was posted before
/// the owner looked, and the look finds it. If it comes second, the owner's wait finds 1: either when it tests the condition, or, when it
/// waits already, because the handler has seen 0 and wakes. A handler that finds 1 wakes nobody and need not: the owner has not cleared
/// since, so it will look once more before it waits. The wait itself joins the queue before it tests (<see cref="WaitQueue"/>). So the
/// owner clears, looks, waits, in this order, and never waits without a look since it has cleared.
/// </remarks>
internal sealed class WakeSignal
{
    private readonly WaitQueue _queue = new();
    private readonly Func<bool> _isRaised;
    private readonly string _reason;
    private int _raised;

    internal WakeSignal(string ring)
    {
        _reason = $"interrupt for ring {ring}";
        _isRaised = () => Volatile.Read(ref _raised) != 0;
        Raise = RaiseCore;
    }

    /// <summary>Wakes the owner; the handler that devices are given. Callable from completion context.</summary>
    internal Action Raise { get; }

    /// <summary>Forgets what was raised: a look at all queues follows.</summary>
    internal void Clear() => Interlocked.Exchange(ref _raised, 0);

    /// <summary>
    /// Waits until it is raised, at most for <paramref name="slice"/>. Since <see cref="Clear"/> all queues were looked at.
    /// </summary>
    /// <param name="slice">The longest sleep; null for any.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>As <see cref="WaitQueue.Wait"/>.</returns>
    internal Errno Wait(TimeSpan? slice, CancellationToken cancellationToken) =>
        _queue.Wait(_isRaised, new WaitReason(_reason), cancellationToken, null, slice);

    private void RaiseCore()
    {
        if (Interlocked.Exchange(ref _raised, 1) == 0)
            _queue.WakeAll();
    }
}
