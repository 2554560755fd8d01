namespace DmaBufIo.Sync;

/// <summary>
/// An attempt to hold several reservation locks at once (the kernel's ww_acquire_ctx). Older contexts win: a younger one that holds
/// what an older one wants is wounded, and must give all its locks back and start again, keeping its age.
/// </summary>
/// <remarks>Used by one thread at a time. Its age counts from its creation and survives backing off, so that it becomes the oldest in the end.</remarks>
public sealed class AcquireContext
{
    private static long s_lastStamp;
    private Parker? _waiting;
    private volatile bool _wounded;
    private int _held;

    /// <summary>The age: smaller is older.</summary>
    public long Stamp { get; } = Interlocked.Increment(ref s_lastStamp);

    /// <summary>How many locks are held with this context.</summary>
    public int Held => Volatile.Read(ref _held);

    /// <summary>True when an older context wants a lock that this one holds: give all locks back and start again.</summary>
    public bool MustBackOff => _wounded && Volatile.Read(ref _held) > 0;

    // The methods below run under the wound/wait graph's lock or on the owning thread. Wound writes the flag, then reads the waiter;
    // BeginWait writes the waiter, and the wait loop then reads the flag: both sides fence, so at least one sees the other.
    internal void Wound()
    {
        _wounded = true;
        Interlocked.MemoryBarrier();
        Volatile.Read(ref _waiting)?.Unpark();
    }

    internal void BeginWait(Parker parker)
    {
        Volatile.Write(ref _waiting, parker);
        Interlocked.MemoryBarrier();
    }

    internal void EndWait() => Volatile.Write(ref _waiting, null);

    internal void Acquired() => Interlocked.Increment(ref _held);

    internal void Released()
    {
        if (Interlocked.Decrement(ref _held) == 0)
            _wounded = false;
    }
}
