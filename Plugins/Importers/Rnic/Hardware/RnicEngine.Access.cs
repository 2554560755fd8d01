using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Regions;
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

/// <content>One packet in or out of a region: a reference on its live map is taken, the bytes are moved through the card's port, the reference is dropped.</content>
internal sealed partial class RnicEngine
{
    /// <summary>Bytes of a packet: the bound of what an invalidation waits for, some microseconds.</summary>
    internal const int PacketSize = 32 << 10;

    private readonly byte[] _packet = new byte[PacketSize];

    /// <summary>Told of each moment of each access, with the token and true for a read.</summary>
    internal Action<AccessStage, DmaBufToken, bool>? Observer { get; set; }

    /// <summary>The engine reads memory into its packet. The context is entered.</summary>
    internal Access Read(DmaPort port, DmaBufToken token, long offset, int length)
    {
        Observer?.Invoke(AccessStage.Before, token, true);
        DmaMap? map = token.TryGetMap(_context);
        if (map is null)
            return Access.NoMap;
        Errno status;
        try
        {
            Observer?.Invoke(AccessStage.Held, token, true);
            status = ((RnicDmaMap)map).Read(port, offset, _packet.AsSpan(0, length));
        }
        finally
        {
            DmaBufToken.Drop(map, _context);
        }

        Observer?.Invoke(AccessStage.After, token, true);
        return status == Errno.Ok ? Access.Done : Access.Fault;
    }

    /// <summary>The engine writes its packet to memory. The context is entered.</summary>
    internal Access Write(DmaPort port, DmaBufToken token, long offset, int length)
    {
        Observer?.Invoke(AccessStage.Before, token, false);
        DmaMap? map = token.TryGetMap(_context);
        if (map is null)
            return Access.NoMap;
        Errno status;
        try
        {
            Observer?.Invoke(AccessStage.Held, token, false);
            status = ((RnicDmaMap)map).Write(port, offset, _packet.AsSpan(0, length));
        }
        finally
        {
            DmaBufToken.Drop(map, _context);
        }

        Observer?.Invoke(AccessStage.After, token, false);
        return status == Errno.Ok ? Access.Done : Access.Fault;
    }
}
