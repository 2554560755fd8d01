using DmaBufIo.Dma;
using DmaBufIo.Files;

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

    /// <summary>It has ended in a visit and holds nothing; the owner frees its place and hands out its completion.</summary>
    Ended,

    /// <summary>It goes through the bounce pool: holds a piece and its map reference until all of its data has moved (T16).</summary>
    Bounced,
}

/// <summary>One place of a ring's table: what the ring alone knows of a request. The rest is in its <see cref="IoRequest"/>.</summary>
/// <remarks>
/// A store of a reference costs more than a look at what is there, and in a steady state it is there already: references are compared before they are stored
/// and left behind when the request ends. What is stale is cleared where registrations end (<see cref="Ring"/>.Forget), so that nothing keeps a driver's
/// types alive.
/// </remarks>
internal struct RingRequest
{
    internal ulong UserData;
    internal IoFile? File;

    /// <summary>Its registration and map, by their number in the ring's table; 0 for none.</summary>
    internal int Use;

    private ulong _header; // slot, operation, state, since: one word, stored at once

    internal readonly int Slot => (ushort)_header;

    internal readonly RingOperation Operation => (RingOperation)(byte)(_header >> 16);

    internal RequestState State
    {
        readonly get => (RequestState)(byte)(_header >> 24);
        set => _header = (_header & ~0xFF00_0000UL) | ((ulong)value << 24);
    }

    /// <summary>Low half of the context's milliseconds when it was started.</summary>
    internal uint Since
    {
        readonly get => (uint)(_header >> 32);
        set => _header = (uint)_header | ((ulong)value << 32);
    }

    /// <summary>Slot and operation: requests that share them can share a run.</summary>
    internal readonly uint Kind => (uint)_header & 0xFF_FFFF;

    internal readonly DmaDirection Direction => ((int)Operation & 1) != 0 ? DmaDirection.ToDevice : DmaDirection.FromDevice;

    internal readonly bool IsVector => ((int)Operation & 2) != 0;

    [Diagnostics.HotPath]
    internal void Prepare(int slot, RingOperation operation) => _header = (uint)slot | ((ulong)operation << 16) | ((ulong)RequestState.Prepared << 24);

    [Diagnostics.HotPath]
    internal void Issue(uint kind, uint now) => _header = kind | ((ulong)RequestState.Issued << 24) | ((ulong)now << 32);
}
