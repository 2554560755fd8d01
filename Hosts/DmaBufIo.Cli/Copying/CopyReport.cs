using DmaBufIo.Cli.Output;

namespace DmaBufIo.Cli.Copying;

/// <summary>What <c>copy</c> prints, as text or as one JSON object.</summary>
internal sealed record CopyReport
{
    public bool Ok { get; init; }

    public required string Source { get; init; }

    public required string Destination { get; init; }

    public required string Exporter { get; init; }

    public long Bytes { get; init; }

    public double Seconds { get; init; }

    public double BytesPerSecond { get; init; }

    public long Requests { get; init; }

    public long Maps { get; init; }

    public long Invalidations { get; init; }

    public long InvalidationsUnderLoad { get; init; }

    /// <summary>Buffers that the exporter has moved out of its device's memory, those of other users included.</summary>
    public long Evictions { get; init; }

    public long Restores { get; init; }

    /// <summary>Bytes of all users' buffers, under pressure.</summary>
    public long WorkingSet { get; init; }

    /// <summary>Where the buffer lay when it was mapped for a device, and why.</summary>
    public IReadOnlyList<PlacementReport> Placements { get; init; } = [];

    public long Reissued { get; init; }

    public long IommuFaults { get; init; }

    public long StaleAccesses { get; init; }

    public string? Sha256Source { get; init; }

    public string? Sha256Destination { get; init; }

    /// <summary>What is well, but not as it should be: members that a mirror has lost.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    public IReadOnlyList<string> Problems { get; init; } = [];

    /// <summary>The destination was written where it is.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public bool IsInPlace { get; init; }

    public ErrorReport? Error { get; init; }
}

/// <summary>How often a device was given the buffer in one place.</summary>
internal sealed record PlacementReport(string Device, string Kind, string Reason, long Maps);
