using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Plugins;
using DmaBufIo.Tokens;

namespace DmaBufIo.Cli.Copying;

/// <summary>What the user asked of <c>copy</c>, checked.</summary>
internal sealed record CopySettings
{
    public required string Source { get; init; }

    public required string Destination { get; init; }

    public required string Exporter { get; init; }

    public required long Buffer { get; init; }

    public required int QueueDepth { get; init; }

    public required long Block { get; init; }

    public required int Lba { get; init; }

    public required IommuMode Iommu { get; init; }

    public required InvalidationDesign Invalidation { get; init; }

    public required long InvalidateEvery { get; init; }

    public required bool KeepPartial { get; init; }

    public bool Pressure { get; init; }

    /// <summary>Bytes to copy at most, or null for all.</summary>
    public long? Length { get; init; }

    /// <summary>Checks what does not depend on devices.</summary>
    /// <exception cref="DmaBufIoException">An option is out of its range (<c>EINVAL</c>).</exception>
    public CopySettings Validate()
    {
        Require(Buffer > 0 && Buffer % MemoryRegion.PageSize == 0, "--buffer", $"{Buffer} bytes are not a positive multiple of the page size ({MemoryRegion.PageSize})", "Give for example --buffer 16M");
        Require(Lba is 512 or 4096, "--lba", $"{Lba} is no supported block size", "Give 512 or 4096");
        Require(Block > 0 && Block % Lba == 0, "--block", $"{Block} bytes are not a positive multiple of the logical block ({Lba})", "Give for example --block 128K");
        Require(Block <= Buffer, "--block", $"{Block} bytes do not fit the buffer of {Buffer}", "Give a smaller block or a larger --buffer");
        Require(QueueDepth is >= 1 and <= 4096, "--queue-depth", $"{QueueDepth} is out of range", "Give 1 to 4096");
        Require(Length is null or >= 0, "--length", $"{Length} is negative", "Give a number of bytes");
        Require(InvalidateEvery >= 0, "--invalidate-every", $"{InvalidateEvery} is negative", "Give a number of requests, or 0 for never");
        return this;
    }

    /// <summary>Parses a size option.</summary>
    /// <param name="option">Its name, for the message.</param>
    /// <param name="text">As the user wrote it.</param>
    /// <exception cref="DmaBufIoException">No size (<c>EINVAL</c>).</exception>
    public static long Size(string option, string text) => DeviceExpression.TryParseSize(text, out long size)
        ? size
        : throw Refused(option, $"'{text}' is not a size", "Write digits with an optional suffix K, M, G or T, for example 64K");

    /// <summary>Parses an option that names one of an enumeration's values.</summary>
    /// <param name="option">Its name, for the message.</param>
    /// <param name="text">As the user wrote it.</param>
    /// <exception cref="DmaBufIoException">Unknown value (<c>EINVAL</c>).</exception>
    public static T Choice<T>(string option, string text)
        where T : struct, Enum
    {
        foreach (T value in Enum.GetValues<T>())
        {
            if (string.Equals(value.ToString(), text, StringComparison.OrdinalIgnoreCase))
                return value;
        }

        string[] known = [.. Enum.GetNames<T>().Select(static n => n.ToLowerInvariant())];
        throw Refused(option, $"'{text}' is unknown", $"Give one of {string.Join(", ", known)}");
    }

    private static void Require(bool condition, string option, string problem, string remedy)
    {
        if (!condition)
            throw Refused(option, problem, remedy);
    }

    private static DmaBufIoException Refused(string option, string problem, string remedy) =>
        new(Errno.EINVAL, "copy", $"option {option}", problem, remedy);
}
