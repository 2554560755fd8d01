using DmaBufIo.Errors;

namespace DmaBufIo.Dma;

/// <summary>
/// The device's side of a DMA address space: how a device model reads and writes memory. Each call is one DMA: it is
/// translated, checked and, when the address is not mapped for it, faulted and recorded.
/// </summary>
/// <remarks>Called from the device's own thread, or inline from the thread that rang the doorbell. Never throws for a bad address: a device gets an error status and reports it.</remarks>
public abstract class DmaPort
{
    /// <summary>The device this port belongs to, for fault reports.</summary>
    public abstract string DeviceName { get; }

    /// <summary>The device reads memory: copies from device addresses into the device's own buffer.</summary>
    /// <param name="address">First device address, any alignment.</param>
    /// <param name="destination">Where the bytes go.</param>
    /// <returns><c>Ok</c>, or <c>EFAULT</c> when any byte is not mapped for reading (what was read before the fault is unspecified).</returns>
    public abstract Errno Read(ulong address, Span<byte> destination);

    /// <summary>The device writes memory.</summary>
    /// <param name="address">First device address, any alignment.</param>
    /// <param name="source">The bytes to write.</param>
    /// <returns><c>Ok</c>, or <c>EFAULT</c> when any byte is not mapped for writing.</returns>
    public abstract Errno Write(ulong address, ReadOnlySpan<byte> source);

    /// <summary>
    /// One DMA without an intermediate copy: hands each contiguous piece of the memory behind the addresses to
    /// <paramref name="mover"/>, in order. The mapping cannot be torn down while a piece is being moved.
    /// </summary>
    /// <param name="address">First device address, any alignment.</param>
    /// <param name="length">Bytes, more than 0.</param>
    /// <param name="direction"><see cref="DmaDirection.ToDevice"/>: the mover reads the pieces; <see cref="DmaDirection.FromDevice"/>: it fills them.</param>
    /// <param name="mover">Moves one piece; must not block on anything that needs host software to proceed.</param>
    /// <returns><c>Ok</c>, <c>EFAULT</c> on a translation fault, or what the mover answered first.</returns>
    public abstract Errno Transfer(ulong address, long length, DmaDirection direction, IDmaMover mover);

    /// <summary>Opens a window to memory that the device will use again and again. A port whose memory is elsewhere (another process) has none.</summary>
    /// <param name="address">First device address.</param>
    /// <param name="length">Bytes; within one mapping.</param>
    /// <param name="direction">The accesses the device will make.</param>
    /// <returns>The window; null when there is no such thing here, or when the addresses are not one live mapping that permits the accesses (recorded as a fault).</returns>
    public virtual DmaWindow? OpenWindow(ulong address, int length, DmaDirection direction) => null;
}

/// <summary>Moves the pieces of one DMA; see <see cref="DmaPort.Transfer"/>.</summary>
public interface IDmaMover
{
    /// <summary>Moves one piece.</summary>
    /// <param name="piece">The memory, contiguous; valid during the call only.</param>
    /// <param name="position">Bytes of the transfer before this piece.</param>
    /// <returns><c>Ok</c>, or an error that ends the transfer.</returns>
    Errno Move(Span<byte> piece, long position);
}
