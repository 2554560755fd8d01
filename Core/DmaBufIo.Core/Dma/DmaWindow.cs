namespace DmaBufIo.Dma;

/// <summary>
/// Memory that a device uses all the time, translated once: its queues. What real devices keep in an address translation cache. Ends with the mapping
/// behind it: whoever unmaps waits until the device is outside, and from then on the device gets no memory.
/// </summary>
/// <remarks>Used by one thread of the device at a time, bracketed: <see cref="TryEnter"/>, then <see cref="Leave"/> in any case.</remarks>
public abstract class DmaWindow : IDisposable
{
    /// <summary>Begins a use. No lock, no interlocked instruction.</summary>
    /// <param name="memory">The memory; valid until <see cref="Leave"/>.</param>
    /// <returns>False when the mapping has ended: the attempt is recorded as a stale access, and <see cref="Leave"/> must not be called.</returns>
    public abstract bool TryEnter(out Span<byte> memory);

    /// <summary>Ends a use. The memory is not touched after it.</summary>
    public abstract void Leave();

    /// <summary>The device needs the window no more. Not while it is inside. Idempotent.</summary>
    public abstract void Dispose();
}
