using DmaBufIo.Errors;
using DmaBufIo.Files;

namespace DmaBufIo.Rings;

/// <content>Waiting for interrupts instead of polling. The protocol stands at <see cref="WakeSignal"/>.</content>
public sealed partial class Ring
{
    private readonly WakeSignal? _wake;

    /// <summary>A queue was opened: when the ring waits for interrupts, the device is told to send them.</summary>
    private void ConnectInterrupts(IoFile file, FileQueue queue)
    {
        if (_wake is not null && !queue.TryEnableInterrupts(_wake.Raise))
        {
            throw new DmaBufIoException(
                Errno.EOPNOTSUPP,
                "Rings",
                $"{file.Name} in {Name}",
                "the device has no interrupts, and the ring waits for them",
                "Use CompletionMode.Polling for this file");
        }
    }

    /// <summary>
    /// Between two looks at the devices. Sleeps from the second fruitless one on: the look before it came after the signal was cleared.
    /// </summary>
    /// <returns>False when nobody would wake the ring: the caller polls.</returns>
    private bool TrySleep(int idleRounds, CancellationToken cancellationToken)
    {
        if (idleRounds == 0)
            return true;
        if (!WillBeWoken())
            return false;
        if (idleRounds > 1)
        {
            TimeSpan interval = _options.HealthCheckInterval;
            _ = _wake!.Wait(interval == Timeout.InfiniteTimeSpan ? null : interval, cancellationToken);
        }

        _wake!.Clear();
        return true;
    }

    /// <summary>
    /// A visitor has worked the queues: what it ended gave an interrupt to nobody (a reset cancels), or one that the owner may have
    /// answered too early.
    /// </summary>
    private void WakeOwner()
    {
        if (_endedInVisit.Count != 0 || _ended.Count != 0 || _endedAsync.Count != 0 || _endedTags.Count != 0 || _roomMade)
            _wake?.Raise();
    }

    // A device will complete something. What is parked or in part without a bio in flight waits for room that nobody announces (a reset),
    // so it is polled for; and nobody announces that a parked request was cancelled.
    private bool WillBeWoken()
    {
        if ((_cancellable != 0 || _roomMade) && _parked.Count != 0)
            return false;
        if (InFlight > _parked.Count + _partial.Count)
            return true;
        bool pending = false;
        for (int i = _partial.Count; i > 0; i--)
        {
            int tag = _partial.Take();
            pending |= _ios[tag].Pending != 0;
            _partial.Add(tag);
        }

        return pending;
    }
}
