using DmaBufIo.Dma;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

internal enum RingOperation : byte
{
    ReadFixed,
    WriteFixed,
    Flush,
}

internal enum RequestState : byte
{
    /// <summary>The place is free.</summary>
    Free,

    /// <summary>Filled in by the application, not submitted.</summary>
    Prepared,

    /// <summary>Sent back before its first bio: holds no map reference (T16).</summary>
    Parked,

    /// <summary>Some of it is issued, the rest waits for room; holds its map reference (T16).</summary>
    Partial,

    /// <summary>All of it is issued.</summary>
    Issued,

    /// <summary>Ended, not reaped.</summary>
    Ended,
}

/// <summary>One place of a ring's table.</summary>
internal struct RingRequest
{
    internal IoRequest Io;
    internal IovIter Iter;
    internal IoFile? File;
    internal RingFile? RingFile;
    internal Registration? Registration;
    internal DmaMap? Map;
    internal ReadOnlyMemory<BufferRange> Ranges;
    internal long BufferOffset;
    internal long Length;
    internal long FileOffset;
    internal ulong UserData;
    internal long Since;
    internal int Slot;
    internal RingOperation Operation;
    internal RequestState State;

    /// <summary>True: <see cref="Ranges"/> say what it covers, and <see cref="Length"/> becomes their sum.</summary>
    internal bool IsVector;

    /// <summary>True: somebody awaits it, and its result does not go to the reaper.</summary>
    internal bool IsAsync;

    internal readonly DmaDirection Direction => Operation == RingOperation.WriteFixed ? DmaDirection.ToDevice : DmaDirection.FromDevice;
}
