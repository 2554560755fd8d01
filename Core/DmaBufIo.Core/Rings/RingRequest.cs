using DmaBufIo.Dma;
using DmaBufIo.Files;
using DmaBufIo.Iov;

namespace DmaBufIo.Rings;

/// <summary>What a request does. Bit 0: it writes; bit 1: ranges say what it covers.</summary>
internal enum RingOperation : byte
{
    ReadFixed = 0,
    WriteFixed = 1,
    ReadFixedVector = 2,
    WriteFixedVector = 3,
    Flush = 4,
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
}

/// <summary>One place of a ring's table: two cache lines.</summary>
/// <remarks>
/// A store of a reference costs more than a look at what is there, and in a steady state it is there already: references are compared before they are stored
/// and left behind when the request ends. What is stale is cleared where registrations end (<see cref="Ring"/>.Forget), so that nothing keeps a driver's
/// types alive.
/// </remarks>
internal struct RingRequest
{
    internal IoRequest Io;

    /// <summary>The memory side: for a range, offset and count from the start; its map is the one that a partial or issued request holds a reference on.</summary>
    internal IovIter Iter;
    internal ulong UserData;
    internal IoFile? File;
    internal Registration? Registration;

    /// <summary>Low half of the context's milliseconds when it was started.</summary>
    internal uint Since;
    internal ushort Slot;
    internal RingOperation Operation;
    internal RequestState State;

    internal readonly DmaDirection Direction => ((int)Operation & 1) != 0 ? DmaDirection.ToDevice : DmaDirection.FromDevice;

    internal readonly bool IsVector => ((int)Operation & 2) != 0;
}
