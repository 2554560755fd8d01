using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Regions;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Hardware;

/// <summary>How one piece of DMA went.</summary>
internal enum Access
{
    /// <summary>The bytes have moved.</summary>
    Done,

    /// <summary>There is no live map; nothing was touched.</summary>
    NoMap,

    /// <summary>The address space refused.</summary>
    Fault,
}

/// <summary>Moments of an access, for tests that invalidate there.</summary>
internal enum AccessStage
{
    /// <summary>No reference is held yet.</summary>
    Before,

    /// <summary>The reference is held, nothing was touched.</summary>
    Held,

    /// <summary>The reference was dropped.</summary>
    After,
}

/// <summary>
/// One turn of a queue pair: whose context it runs in, and how much may be done. References on maps are taken and dropped here, packet by packet: whoever drains a map waits for the end of a turn at most.
/// </summary>
/// <remarks>
/// Turns are the engine's, or a worker's that has just made a map a pair was waiting for and holds the reference on it: that one goes on with this map even if it was killed already. So a pair gets on by a packet
/// with each map that is made for it, however fast its buffers move.
/// </remarks>
internal sealed class Turn(IoContext context)
{
    /// <summary>Bytes of a packet: the bound of one piece of DMA, some microseconds.</summary>
    internal const int PacketSize = 32 << 10;

    private DmaBufToken? _heldToken;
    private DmaMap? _heldMap;

    /// <summary>Completions of the turn: interrupts follow when no lock is held.</summary>
    internal CompletionSink Sink { get; } = new();

    /// <summary>Bytes that may still be moved.</summary>
    internal int Bytes { get; set; }

    /// <summary>Requests that may still be begun.</summary>
    internal int Requests { get; set; }

    /// <summary>When somebody who waits for a time wants to be looked at again; null when nobody does.</summary>
    internal TimeSpan? Deadline { get; private set; }

    /// <summary>Told of each moment of each access, with the token and true for a read.</summary>
    internal Action<AccessStage, DmaBufToken, bool>? Observer { get; set; }

    /// <summary>A turn of an engine.</summary>
    internal void Begin()
    {
        Bytes = 128 << 10;
        Requests = 32;
    }

    /// <summary>A turn of a worker: short, for several pairs may have waited for the map.</summary>
    internal void BeginWith(DmaBufToken token, DmaMap map)
    {
        Bytes = PacketSize;
        Requests = 8;
        _heldToken = token;
        _heldMap = map;
    }

    internal void LookAgainIn(TimeSpan time)
    {
        if (Deadline is null || time < Deadline)
            Deadline = time;
    }

    internal void ForgetDeadline() => Deadline = null;

    /// <summary>A packet is read from memory. The context is entered.</summary>
    internal Access Read(DmaPort port, DmaBufToken token, long offset, Span<byte> packet)
    {
        if (TryGet(token, true, out DmaMap? map, out bool isTaken) is var access && access != Access.Done)
            return access;
        Errno status;
        try
        {
            Observer?.Invoke(AccessStage.Held, token, true);
            status = ((RangeMap)map!).Read(port, offset, packet);
        }
        finally
        {
            if (isTaken)
                DmaBufToken.Drop(map!, context);
        }

        Observer?.Invoke(AccessStage.After, token, true);
        return status == Errno.Ok ? Access.Done : Access.Fault;
    }

    /// <summary>A packet is written to memory. The context is entered.</summary>
    internal Access Write(DmaPort port, DmaBufToken token, long offset, ReadOnlySpan<byte> packet)
    {
        if (TryGet(token, false, out DmaMap? map, out bool isTaken) is var access && access != Access.Done)
            return access;
        Errno status;
        try
        {
            Observer?.Invoke(AccessStage.Held, token, false);
            status = ((RangeMap)map!).Write(port, offset, packet);
        }
        finally
        {
            if (isTaken)
                DmaBufToken.Drop(map!, context);
        }

        Observer?.Invoke(AccessStage.After, token, false);
        return status == Errno.Ok ? Access.Done : Access.Fault;
    }

    private Access TryGet(DmaBufToken token, bool isRead, out DmaMap? map, out bool isTaken)
    {
        Observer?.Invoke(AccessStage.Before, token, isRead);
        isTaken = !ReferenceEquals(token, _heldToken);
        map = isTaken ? token.TryGetMap(context) : _heldMap;
        return map is null ? Access.NoMap : Access.Done;
    }
}
