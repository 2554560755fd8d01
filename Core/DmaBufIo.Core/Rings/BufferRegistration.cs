using System.Runtime.InteropServices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Files;
using DmaBufIo.Memory;

namespace DmaBufIo.Rings;

/// <summary>
/// What a buffer is registered with (R1): a buffer, its descriptor or memory of the application's own, and the file whose requests will use
/// it.
/// </summary>
public sealed record BufferRegistration
{
    /// <summary>The buffer; or give <see cref="Descriptor"/> or <see cref="Memory"/>.</summary>
    public DmaBuf? Buffer { get; init; }

    /// <summary>A descriptor that stands for the buffer; stays the caller's.</summary>
    public SafeHandle? Descriptor { get; init; }

    /// <summary>
    /// Memory of the application's own: it goes the same way as a foreign buffer, through a token and a map, and never moves. The whole
    /// region is registered. It stays the application's, which keeps it until the registration's release has been waited for
    /// (<see cref="RemovedBuffer.WaitReleased"/>). Registrations of one region share one buffer, and on one device one mapping.
    /// </summary>
    public MemoryRegion? Memory { get; init; }

    /// <summary>The target file.</summary>
    public IoFile? File { get; init; }

    /// <summary>The transfers the registration is for; the others are refused (T1).</summary>
    public DmaDirection Direction { get; init; } = DmaDirection.Bidirectional;

    /// <summary>When the device's mapping is made: once for all requests, or for each.</summary>
    public BufferMapping Mapping { get; init; }

    /// <summary>What happens to its requests that the device cannot do in place; null for what the ring says (<see cref="RingOptions.TransferPolicy"/>).</summary>
    public TransferPolicy? Policy { get; init; }

    /// <summary>Must be 0: a registered buffer has no address of its own, requests give byte offsets into it (R1, R2).</summary>
    public ulong Address { get; init; }

    /// <summary>Must be 0: the whole buffer is registered (R1).</summary>
    public ulong Length { get; init; }

    /// <summary>Must be 0: reserved (R1).</summary>
    public ulong Reserved { get; init; }

    /// <summary>When not 0, a completion with this value as user data is posted after the last request of the registration has ended and it was removed (R6).</summary>
    public ulong Tag { get; init; }
}
