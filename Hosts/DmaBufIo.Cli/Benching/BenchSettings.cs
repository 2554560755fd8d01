using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Cli.Benching;

/// <summary>What the user asked of <c>bench</c>, checked.</summary>
internal sealed record BenchSettings
{
    internal static readonly TimeSpan DefaultRuntime = TimeSpan.FromSeconds(5);

    /// <summary>
    /// Code is recompiled with what was learnt of it while it runs; at less than a second, slow code would be measured with it.
    /// </summary>
    internal static readonly TimeSpan DefaultWarmup = TimeSpan.FromSeconds(2);

    public required string Device { get; init; }

    public string Exporter { get; init; } = "udmabuf";

    public AccessPattern Pattern { get; init; } = AccessPattern.Parse("randread");

    public long Block { get; init; } = 4096;

    /// <summary>Requests in flight per thread.</summary>
    public int QueueDepth { get; init; } = 32;

    public int Threads { get; init; } = 1;

    public TimeSpan Runtime { get; init; } = DefaultRuntime;

    public TimeSpan Warmup { get; init; } = DefaultWarmup;

    /// <summary>Ends the measurement after so many requests; null: only the runtime ends it.</summary>
    public long? Requests { get; init; }

    public IommuMode Iommu { get; init; } = IommuMode.Strict;

    public InvalidationDesign Invalidation { get; init; }

    public BufferMapping Mapping { get; init; }

    /// <summary>Moves of the buffer per second; 0 is none.</summary>
    public double InvalidateRate { get; init; }

    public CompletionMode Completion { get; init; }

    public long Buffer { get; init; } = 16L << 20;

    public bool Overwrite { get; init; }

    /// <summary>Bytes of the buffer that the requests use: each has a place of its own, one for reads and one for writes.</summary>
    internal long BufferNeeded => Block * QueueDepth * Threads * (Pattern is { Reads: true, Writes: true } ? 2 : 1);

    /// <summary>Checks what does not depend on devices.</summary>
    /// <exception cref="DmaBufIoException">An option is out of its range (<c>EINVAL</c>).</exception>
    internal BenchSettings Validate()
    {
        Require(
            Buffer > 0 && Buffer % MemoryRegion.PageSize == 0, "--buffer",
            $"{Buffer} bytes are not a positive multiple of the page size ({MemoryRegion.PageSize})", "Give for example --buffer 16M");
        Require(
            Block > 0 && Block % 512 == 0, "--block", $"{Block} bytes are not a positive multiple of 512", "Give for example --block 4K");
        Require(QueueDepth is >= 1 and <= 4096, "--queue-depth", $"{QueueDepth} is out of range", "Give 1 to 4096");
        Require(Threads is >= 1 and <= 64, "--threads", $"{Threads} is out of range", "Give 1 to 64");
        Require(Runtime > TimeSpan.Zero, "--runtime", "nothing can be measured in no time", "Give for example --runtime 5s");
        Require(Requests is null or > 0, "--requests", $"{Requests} is not positive", "Give a number of requests");
        Require(
            InvalidateRate is >= 0 and <= 1e6, "--invalidate-rate", $"{InvalidateRate} is out of range",
            "Give moves per second, or 0 for none");
        Require(
            Block <= Buffer / QueueDepth / Threads, "--buffer",
            $"{Threads * (long)QueueDepth} requests of {Block} bytes need {BufferNeeded} bytes, the buffer has {Buffer}",
            "Give a larger --buffer, or less of --block, --queue-depth or --threads");
        Require(
            BufferNeeded <= Buffer, "--buffer",
            $"{Threads * (long)QueueDepth} requests of {Block} bytes, each with a place for reads and one for writes, "
            + $"need {BufferNeeded} bytes, the buffer has {Buffer}",
            $"Give at least --buffer {BufferNeeded}");
        return this;
    }

    /// <summary>Parses a size option.</summary>
    /// <exception cref="DmaBufIoException">No size (<c>EINVAL</c>).</exception>
    internal static long Size(string option, string text) => DeviceExpression.TryParseSize(text, out long size)
        ? size
        : throw Refused(option, $"'{text}' is not a size", "Write digits with an optional suffix K, M, G or T, for example 64K");

    /// <summary>Parses a duration option.</summary>
    /// <exception cref="DmaBufIoException">No duration (<c>EINVAL</c>).</exception>
    internal static TimeSpan Time(string option, string text) => Duration.TryParse(text, out TimeSpan time)
        ? time
        : throw Refused(
            option, $"'{text}' is not a duration of up to a day", "Write for example 2s, 500ms or 1m; a number alone is seconds");

    /// <summary>Parses an option that names one of a few values.</summary>
    /// <exception cref="DmaBufIoException">Unknown (<c>EINVAL</c>).</exception>
    internal static T Choice<T>(string option, string text, params ReadOnlySpan<(string Word, T Value)> known)
    {
        var words = new List<string>();
        foreach ((string word, T value) in known)
        {
            if (word == text)
                return value;
            words.Add(word);
        }

        throw Refused(option, $"'{text}' is unknown", $"Give one of {string.Join(", ", words)}");
    }

    internal static DmaBufIoException Refused(string option, string problem, string remedy) =>
        new(Errno.EINVAL, "bench", $"option {option}", problem, remedy);

    private static void Require(bool condition, string option, string problem, string remedy)
    {
        if (!condition)
            throw Refused(option, problem, remedy);
    }
}
