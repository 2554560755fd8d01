using DmaBufIo.Devices;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Sync;

namespace DmaBufIo.Tokens;

/// <content>Release (T10): no new map, every map gone, the driver's release, then the references.</content>
public sealed partial class DmaBufToken
{
    /// <summary>
    /// Begins the release and returns. Idempotent; callable in completion context, where the last request may be what drops the registration: the
    /// work is done by workers. Requests in flight end first.
    /// </summary>
    public void Release()
    {
        lock (_lock)
        {
            if (_state != State.Live)
                return;
            _state = State.Releasing;
        }

        Workers.Queue(new ReleaseItem(this));
    }

    /// <summary>Waits until nothing of the token is left: maps unmapped, driver released, references dropped.</summary>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns><c>Ok</c>, or <c>EINTR</c> when cancelled.</returns>
    /// <remarks>Reaps queues while it waits (T14). Requests that are parked for want of room are their ring's to submit again.</remarks>
    public Errno WaitReleased(CancellationToken cancellationToken = default)
    {
        var wait = new PollingWait(new WaitReason($"release of {Name}", DescribeKilled));
        while (true)
        {
            // The last request may have ended in a queue that nobody reaps, and be what drops the registration.
            if (Volatile.Read(ref _live) is { } live)
                GateDrain.Advance(live.Gate);
            foreach (DmaMap map in Undrained())
                GateDrain.Advance(map.Gate);
            Errno status = _released.Wait(ref wait, cancellationToken);
            if (status != Errno.EAGAIN)
                return status;
        }
    }

    private void BeginRelease()
    {
        KillMaps();
        bool last;
        lock (_lock)
            last = IsOverLocked();
        if (last)
            FinishRelease();
    }

    /// <summary>True when the release has begun and no map is left, nor one being made.</summary>
    private bool IsOverLocked() => _state == State.Releasing && !_making && _live is null && _killed.Count == 0;

    private void FinishRelease()
    {
        lock (_lock)
        {
            // The kill may have let the last unmapping overtake: only one of the two finishes.
            if (_finishing)
                return;
            _finishing = true;
        }

        _driver.ReleaseAll((callback, action) => Guarded($"{callback} ({Name})", action));
        foreach (DmaDevice device in _holding)
            device.RemoveHolder(this);
        SnapshotRegistry.Remove(this);
        Guarded($"Put of the file ({Name})", _owner.Put);
        Guarded($"Put of the buffer ({Name})", Buffer.Put);
        lock (_lock)
            _state = State.Released;
        Counters.TokensReleased.Add();
        _released.Complete();
    }

    private bool _finishing;

    private sealed class ReleaseItem(DmaBufToken token) : WorkItem
    {
        protected internal override void Run() => token.BeginRelease();
    }
}
