using System.Runtime.InteropServices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Files;

namespace DmaBufIo.Rings;

/// <summary>What a buffer is registered with (R1): a buffer or its descriptor, and the file whose requests will use it.</summary>
public sealed record BufferRegistration
{
    /// <summary>The buffer; or give <see cref="Descriptor"/>.</summary>
    public DmaBuf? Buffer { get; init; }

    /// <summary>A descriptor that stands for the buffer; stays the caller's.</summary>
    public SafeHandle? Descriptor { get; init; }

    /// <summary>The target file.</summary>
    public IoFile? File { get; init; }

    /// <summary>The transfers the registration is for; the others are refused (T1).</summary>
    public DmaDirection Direction { get; init; } = DmaDirection.Bidirectional;

    /// <summary>Must be 0: a registered buffer has no address of its own, requests give byte offsets into it (R1, R2).</summary>
    public ulong Address { get; init; }

    /// <summary>Must be 0: the whole buffer is registered (R1).</summary>
    public ulong Length { get; init; }

    /// <summary>Must be 0: reserved (R1).</summary>
    public ulong Reserved { get; init; }

    /// <summary>When not 0, a completion with this value as user data is posted after the last request of the registration has ended and it was removed (R6).</summary>
    public ulong Tag { get; init; }
}
