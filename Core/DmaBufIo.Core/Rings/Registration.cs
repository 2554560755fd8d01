using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Files;
using DmaBufIo.Memory;
using DmaBufIo.Sync;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <summary>One filled slot of a ring's table, and what in-flight requests keep of it after it was emptied (R6). Used by the ring's current owner only.</summary>
internal sealed class Registration
{
    private readonly ReleaseItem? _release;

    /// <summary>Premapped: through a token, which holds the buffer.</summary>
    internal Registration(DmaBufToken token, RingFile ringFile, ulong tag)
        : this(token.Buffer.Size, token.Direction, ringFile, tag)
    {
        AnyToken = token;
        Token = ringFile.IsPaged ? null : token;
    }

    /// <summary>Mapped per request: takes a reference on the buffer.</summary>
    internal Registration(DmaBuf buffer, MemoryLayout memory, DmaDirection direction, RingFile ringFile, WorkQueue workers, ulong tag)
        : this(buffer.Size, direction, ringFile, tag)
    {
        buffer.Get();
        Memory = memory;
        _release = new ReleaseItem(buffer, workers);
    }

    /// <summary>Without a direct way: every request is bounced, through a token of the CPU's, which holds the buffer.</summary>
    internal Registration(BouncePath bounce, RingFile ringFile, ulong tag)
        : this(bounce.Token.Buffer.Size, bounce.Token.Direction, ringFile, tag) => Bounce = bounce;

    private Registration(long size, DmaDirection direction, RingFile ringFile, ulong tag)
    {
        File = ringFile.File;
        RingFile = ringFile;
        Size = size;
        Direction = direction;
        Tag = tag;
    }

    /// <summary>Premapped, with a reference per request: the token. Else null, also when every request is bounced.</summary>
    internal DmaBufToken? Token { get; }

    /// <summary>Premapped: the token, also where the device takes the references (<see cref="IoFile.IsPaged"/>). Else null.</summary>
    internal DmaBufToken? AnyToken { get; }

    /// <summary>How its requests may be bounced; null where they may not (<see cref="TransferPolicy.Direct"/>).</summary>
    internal BouncePath? Bounce { get; init; }

    /// <summary>Mapped per request: the buffer's memory. Else null.</summary>
    internal MemoryLayout? Memory { get; }

    internal IoFile File { get; }

    internal RingFile RingFile { get; }

    internal DmaDirection Direction { get; }

    internal long Size { get; }

    internal ulong Tag { get; }

    /// <summary>Its tokens: none, the device's, the CPU's, or both.</summary>
    internal IEnumerable<DmaBufToken> Tokens => new[] { AnyToken, Bounce?.Token }.OfType<DmaBufToken>();

    /// <summary>Set once the reference on a buffer that is mapped per request is dropped; null for the others, whose tokens hold it.</summary>
    internal Completion? Released => _release?.Done;

    /// <summary>What its requests without a map name it by.</summary>
    internal MapUse? Bare { get; set; }

    /// <summary>What its requests with the newest map name it by.</summary>
    internal MapUse? Mapped { get; set; }

    /// <summary>Requests that were accepted for it and have not ended, also those that are parked without a map.</summary>
    internal int InFlight { get; set; }

    internal bool IsRemoved { get; set; }

    /// <summary>True for what the next requests name it by.</summary>
    internal bool IsKept(MapUse use) => ReferenceEquals(use, Bare) || ReferenceEquals(use, Mapped) || ReferenceEquals(use, Bounce?.Use);

    /// <summary>
    /// The last request of a removed registration has ended; this may be completion context, so workers do the rest (T10).
    /// </summary>
    internal void Release()
    {
        AnyToken?.Release();
        Bounce?.Token.Release();
        _release?.Workers.Queue(_release);
    }

    private sealed class ReleaseItem(DmaBuf buffer, WorkQueue workers) : WorkItem
    {
        internal WorkQueue Workers { get; } = workers;

        internal Completion Done { get; } = new();

        protected internal override void Run()
        {
            buffer.Put();
            Done.Complete();
        }
    }
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

    /// <summary>True when its device takes the references on maps (<see cref="IoFile.IsPaged"/>).</summary>
    internal bool IsPaged { get; } = file.IsPaged;

    /// <summary>Paged: as <see cref="FullIn"/>, for reads alone, which wait for others: writes behind them must not, nor reads behind writes, or two ends would wait for each other.</summary>
    internal long ReadsFullIn { get; set; }

    /// <summary>True when something was issued since the last commit.</summary>
    internal bool IsTouched { get; set; }
}
