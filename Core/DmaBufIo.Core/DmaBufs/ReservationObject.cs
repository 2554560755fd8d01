using System.Diagnostics;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.DmaBufs;

/// <summary>One lock and a set of fences, each with a usage class (the kernel's dma_resv). Every buffer has one.</summary>
/// <remarks>The fences are guarded by a short lock of their own, so that they can be tested and waited for with or without the reservation lock; they are added with it held.</remarks>
public sealed class ReservationObject : ISnapshotSource
{
    private readonly WoundWaitLock _lock;
    private readonly Lock _fenceLock = new();
    private Entry[] _fences = new Entry[4];
    private int _count;
    private int _reserved;

    /// <summary>Creates an object that is unlocked and has no fences.</summary>
    /// <param name="name">The buffer's name.</param>
    public ReservationObject(string name)
    {
        _lock = new WoundWaitLock(name);
        Work = new LockedWork(this);
        SnapshotRegistry.Add(this);
    }

    /// <summary>The buffer's name.</summary>
    public string Name => _lock.Name;

    /// <summary>True when the current thread holds the lock.</summary>
    public bool IsHeldByCurrentThread => _lock.IsHeldByCurrentThread;

    /// <summary>True while any thread holds the lock.</summary>
    public bool IsLocked => _lock.IsHeld;

    /// <summary>What workers do with the lock held.</summary>
    internal LockedWork Work { get; }

    /// <summary>Takes the lock; may sleep. Not while holding a map reference (T15).</summary>
    /// <param name="guard">Gives the lock back when disposed; meaningful only when the answer is <c>Ok</c>.</param>
    /// <param name="context">The acquire context, or null. Without one the holder cannot be wounded (F5).</param>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns><c>Ok</c>; <c>EDEADLK</c> when wounded or held by this thread; <c>EALREADY</c> when held with this context; <c>EINTR</c> when cancelled.</returns>
    /// <exception cref="DmaBufIoException">The thread may not sleep here (T15).</exception>
    public Errno TryLock(out ReservationGuard guard, AcquireContext? context = null, CancellationToken cancellationToken = default)
    {
        Errno status = _lock.Lock(context, cancellationToken);
        guard = status == Errno.Ok ? new ReservationGuard(this, context) : default;
        return status;
    }

    /// <summary>Takes the lock if it is free; never waits.</summary>
    /// <param name="guard">Gives the lock back when disposed; meaningful only when the answer is true.</param>
    /// <param name="context">The acquire context, or null.</param>
    /// <returns>False when it is held, also by the caller.</returns>
    public bool TryLockAtOnce(out ReservationGuard guard, AcquireContext? context = null)
    {
        bool taken = _lock.TryLock(context);
        guard = taken ? new ReservationGuard(this, context) : default;
        return taken;
    }

    /// <summary>Takes the lock or throws; see <see cref="TryLock"/>.</summary>
    /// <param name="context">The acquire context, or null.</param>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns>Gives the lock back when disposed.</returns>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    /// <exception cref="DmaBufIoException">Wounded, or held already (<c>EDEADLK</c>, <c>EALREADY</c>).</exception>
    public ReservationGuard Lock(AcquireContext? context = null, CancellationToken cancellationToken = default)
    {
        Errno status = TryLock(out ReservationGuard guard, context, cancellationToken);
        if (status == Errno.Ok)
            return guard;
        cancellationToken.ThrowIfCancellationRequested();
        throw new DmaBufIoException(
            status,
            "DmaBufs",
            $"reservation lock of {Name}",
            context is null ? "this thread holds the lock already" : "the acquire context was wounded or holds the lock already",
            context is null ? "Pass the held reservation on instead of locking again" : "Give back all locks of the context and start again with the same context",
            rule: "F5");
    }

    /// <summary>Makes room for fences; adding them then cannot fail (F1). The room is lost when the lock is given back.</summary>
    /// <param name="held">Proof that the lock is held.</param>
    /// <param name="count">How many fences are going to be added.</param>
    public void Reserve(in HeldReservation held, int count)
    {
        held.AssertFor(this);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        lock (_fenceLock)
        {
            // Signalled fences make room first.
            _count = Compact();
            _reserved += count;
            if (_count + _reserved > _fences.Length)
                Array.Resize(ref _fences, Math.Max(_fences.Length * 2, _count + _reserved));
        }
    }

    /// <summary>
    /// Adds a fence; allocates nothing. It replaces an older fence of the same context with the same or a weaker class, or any signalled one (F2).
    /// </summary>
    /// <param name="held">Proof that the lock is held.</param>
    /// <param name="fence">The fence.</param>
    /// <param name="usage">Its class.</param>
    /// <exception cref="DmaBufIoException">No room was reserved (<c>EINVAL</c>, F1).</exception>
    public void Add(in HeldReservation held, DmaFence fence, FenceUsage usage)
    {
        held.AssertFor(this);
        lock (_fenceLock)
        {
            if (_reserved == 0)
                throw new DmaBufIoException(Errno.EINVAL, "DmaBufs", $"reservation object of {Name}", "a fence was added without a reserved slot", "Call Reserve under the same hold of the lock before creating the fence", rule: "F1");
            _reserved--;
            for (int i = 0; i < _count; i++)
            {
                ref Entry old = ref _fences[i];
                bool superseded = old.Fence.Context == fence.Context && old.Usage >= usage && old.Fence.Sequence <= fence.Sequence;
                if (superseded || old.Fence.IsSignaled)
                {
                    old = new Entry(fence, usage);
                    return;
                }
            }

            _fences[_count++] = new Entry(fence, usage);
        }
    }

    /// <summary>True when every fence of the class and the classes before it has signalled.</summary>
    /// <param name="usage">The last class to look at.</param>
    public bool IsIdle(FenceUsage usage) => FirstUnsignaled(usage) is null;

    /// <summary>The fences that have not signalled, of the class and the classes before it.</summary>
    /// <param name="usage">The last class to look at.</param>
    public IReadOnlyList<DmaFence> Unsignaled(FenceUsage usage)
    {
        lock (_fenceLock)
            return [.. _fences.Take(_count).Where(e => e.Usage <= usage && !e.Fence.IsSignaled).Select(static e => e.Fence)];
    }

    /// <summary>Waits for every fence of the class and the classes before it, also those added meanwhile; may sleep; with or without the lock.</summary>
    /// <param name="usage">The last class to wait for.</param>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <param name="context">When given, the wait also ends when this acquire context is wounded.</param>
    /// <returns><c>Ok</c>, <c>EINTR</c> when cancelled, <c>EDEADLK</c> when wounded.</returns>
    public Errno Wait(FenceUsage usage, CancellationToken cancellationToken = default, AcquireContext? context = null)
    {
        NoSleepContext.AssertMaySleep($"fences of {Name}");
        while (FirstUnsignaled(usage) is { } fence)
        {
            Errno status = fence.Wait(cancellationToken, context);
            if (status != Errno.Ok)
                return status;
        }

        return Errno.Ok;
    }

    /// <inheritdoc/>
    public void Describe(SnapshotBuilder snapshot)
    {
        (string? holder, TimeSpan heldFor, string[] waiters) = _lock.State();
        snapshot.Locks.Add(new LockState(Name, holder, heldFor, waiters));
        lock (_fenceLock)
        {
            foreach (Entry entry in _fences.AsSpan(0, _count))
            {
                if (!entry.Fence.IsSignaled)
                    snapshot.Fences.Add(new FenceState(Name, entry.Fence.ToString(), entry.Usage.ToString(), Stopwatch.GetElapsedTime(entry.Fence.Created)));
            }
        }
    }

    internal void Unlock()
    {
        lock (_fenceLock)
            _reserved = 0;
        _lock.Unlock();
        Work.Unlocked();
    }

    private DmaFence? FirstUnsignaled(FenceUsage usage)
    {
        lock (_fenceLock)
        {
            foreach (ref readonly Entry entry in _fences.AsSpan(0, _count))
            {
                if (entry.Usage <= usage && !entry.Fence.IsSignaled)
                    return entry.Fence;
            }

            return null;
        }
    }

    private int Compact()
    {
        int kept = 0;
        for (int i = 0; i < _count; i++)
        {
            if (!_fences[i].Fence.IsSignaled)
                _fences[kept++] = _fences[i];
        }

        Array.Clear(_fences, kept, _count - kept);
        return kept;
    }

    private readonly record struct Entry(DmaFence Fence, FenceUsage Usage);
}
