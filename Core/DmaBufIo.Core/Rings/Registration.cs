using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Files;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <summary>One filled slot of a ring's table, and what in-flight requests keep of it after it was emptied (R6). Used by the ring's current owner only.</summary>
internal sealed class Registration(DmaBufToken token, IoFile file, RingFile ringFile, ulong tag)
{
    internal DmaBufToken Token { get; } = token;

    internal IoFile File { get; } = file;

    internal RingFile RingFile { get; } = ringFile;

    internal DmaDirection Direction { get; } = token.Direction;

    internal DmaBuf Buffer => Token.Buffer;

    internal long Size { get; } = token.Buffer.Size;

    internal ulong Tag { get; } = tag;

    /// <summary>Requests that were accepted for it and have not ended, also those that are parked without a map.</summary>
    internal int InFlight { get; set; }

    internal bool IsRemoved { get; set; }
}

/// <summary>A file in use by a ring: the reference on it and its queue.</summary>
internal sealed class RingFile(IoFile file, FileQueue queue)
{
    internal IoFile File { get; } = file;

    internal FileQueue Queue { get; } = queue;

    /// <summary>Requests accepted for it that have not ended.</summary>
    internal int InFlight { get; set; }

    /// <summary>The number of the last round of retries in which it had no room.</summary>
    internal long FullIn { get; set; }

    /// <summary>True when something was issued since the last commit.</summary>
    internal bool IsTouched { get; set; }
}
