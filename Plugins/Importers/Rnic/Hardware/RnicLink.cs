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

    /// <summary>The order in which two links are locked.</summary>
    internal long Order { get; } = Interlocked.Increment(ref s_last);

    internal Lock Lock { get; } = new();
}
