using System.Globalization;
using DmaBufIo.Dma;
using DmaBufIo.Errors;

namespace DmaBufIo.Cli.Benching;

/// <summary>Which requests a benchmark makes, in fio's words.</summary>
/// <param name="Text">As the user wrote it.</param>
/// <param name="IsRandom">Anywhere in the device, or one after the other.</param>
/// <param name="ReadPercent">How many of a hundred are reads.</param>
internal sealed record AccessPattern(string Text, bool IsRandom, int ReadPercent)
{
    internal bool Writes => ReadPercent < 100;

    internal bool Reads => ReadPercent > 0;

    internal DmaDirection Direction => (Reads ? DmaDirection.FromDevice : 0) | (Writes ? DmaDirection.ToDevice : 0);

    /// <summary>Parses <c>--rw</c>.</summary>
    /// <exception cref="DmaBufIoException">Unknown (<c>EINVAL</c>).</exception>
    internal static AccessPattern Parse(string text)
    {
        (bool isRandom, int percent) = text switch
        {
            "read" => (false, 100),
            "write" => (false, 0),
            "randread" => (true, 100),
            "randwrite" => (true, 0),
            "randrw" => (true, 50),
            _ when text.StartsWith("randrw:", StringComparison.Ordinal)
                && int.TryParse(text.AsSpan("randrw:".Length), NumberStyles.None, CultureInfo.InvariantCulture, out int share) =>
                    (true, share),
            _ => (false, -1),
        };
        return percent is >= 0 and <= 100
            ? new AccessPattern(text, isRandom, percent)
            : throw BenchSettings.Refused(
                "--rw", $"'{text}' is unknown",
                "Give read, write, randread, randwrite or randrw:PERCENT, where PERCENT of the requests are reads");
    }
}
