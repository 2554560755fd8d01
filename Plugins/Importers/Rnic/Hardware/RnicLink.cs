namespace DmaBufIo.Importers.Rnic.Hardware;

/// <summary>
/// The lock of one connection: guards the states, the device's side of all four queues, and with them the DMA of both ends. A pair without a peer has a link of its own; connecting exchanges it
/// for one that both ends share, once.
/// </summary>
/// <remarks>
/// Protocol. Whoever has taken the lock of <c>pair.Link</c> looks whether it still is the pair's link. The exchange holds the locks of both old links. The lock is held for a bounded stretch of DMA, and nothing
/// under it sleeps: map references are taken and dropped under it (T15). Order of locks: wire, device, link, completion queue.
/// </remarks>
internal sealed class RnicLink
{
    private static long s_last;
    private int _wanted;

    /// <summary>The order in which two links are locked.</summary>
    internal long Order { get; } = Interlocked.Increment(ref s_last);

    internal Lock Lock { get; } = new();

    /// <summary>Somebody wants to change what an engine works with. The lock is not fair, and an engine comes back sooner than another thread wakes: engines step aside, between two packets.</summary>
    internal bool IsWanted => Volatile.Read(ref _wanted) != 0;

    /// <summary>Takes the lock to change something; left by disposing the scope.</summary>
    internal Lock.Scope EnterControl()
    {
        Interlocked.Increment(ref _wanted);
        try
        {
            return Lock.EnterScope();
        }
        finally
        {
            Interlocked.Decrement(ref _wanted);
        }
    }
}
