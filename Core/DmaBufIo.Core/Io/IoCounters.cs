namespace DmaBufIo.Io;

/// <summary>Totals of one context. Written by its owner only, plain; another thread that reads them may see values that are a moment old.</summary>
public sealed class IoCounters
{
    /// <summary>Requests submitted.</summary>
    public long Requests { get; set; }

    /// <summary>Requests completed.</summary>
    public long Completed { get; set; }

    /// <summary>Requests completed with an error.</summary>
    public long Failed { get; set; }

    /// <summary>Bytes moved by completed requests.</summary>
    public long Bytes { get; set; }

    /// <summary>Requests that were sent back before their first child and issued again: map killed, no tag, no bio (T16, R4).</summary>
    public long Reissued { get; set; }

    /// <summary>Requests that went through the bounce pool, those in flight included. A request that is done piece by piece counts once.</summary>
    public long Bounced { get; set; }

    /// <summary>Bytes moved by completed requests that went through the bounce pool; part of <see cref="Bytes"/>.</summary>
    public long BouncedBytes { get; set; }

    /// <summary>Parts that devices over others have given to their members, on every level: 0 for requests to a device that stands on none.</summary>
    public long Parts { get; set; }
}
