using System.Globalization;

namespace DmaBufIo.Cli.Benching;

/// <summary>Durations as users write them: "2s", "500ms", "1m"; a number alone is seconds.</summary>
internal static class Duration
{
    private static readonly (string Suffix, double Seconds)[] s_units = [("ms", 1e-3), ("us", 1e-6), ("s", 1), ("m", 60), ("", 1)];

    /// <summary>Parses a duration of at most a day.</summary>
    /// <returns>False when it is none.</returns>
    internal static bool TryParse(string text, out TimeSpan duration)
    {
        (string suffix, double seconds) = Array.Find(s_units, u => text.EndsWith(u.Suffix, StringComparison.Ordinal));
        duration = default;
        ReadOnlySpan<char> number = text.AsSpan(0, text.Length - suffix.Length);
        if (!double.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double value)
            || !(value * seconds <= 86400))
        {
            return false;
        }

        duration = TimeSpan.FromSeconds(value * seconds);
        return true;
    }
}
