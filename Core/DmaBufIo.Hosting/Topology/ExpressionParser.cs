using DmaBufIo.Plugins;

namespace DmaBufIo.Hosting.Topology;

/// <summary>Parses topology expressions: which device, which exporter. Holds the known words; immutable.</summary>
/// <remarks>
/// <code>
/// device   = WORD ":" TEXT options [members] | WORD [":" TEXT options] members | PATH
/// members  = ["@"] "(" device { "," device } ")"
/// options  = { "," NAME ["=" VALUE] }
/// exporter = WORD [ ":" (TEXT options | NAME "=" VALUE options) ]
/// </code>
/// A text is an expression only when it begins with a known word followed by ':' or '('; otherwise the whole of it is a path, which may
/// contain anything and means <c>nvme:PATH</c>. Inside parentheses a path ends at ',' or ')', and a word that is followed by ':' or '('
/// must be known. TEXT, VALUE and a path inside parentheses end at ',', '(', ')' and '@('; one that contains these is written in double
/// quotes, a quote in it doubled. Inside parentheses NAME needs its '=': a bare word after a comma is the next member. Spaces around
/// members are passed over.
/// </remarks>
public sealed class ExpressionParser
{
    private readonly string[] _deviceWords;
    private readonly string[] _exporterWords;

    /// <summary>Creates a parser.</summary>
    /// <param name="deviceWords">The words that name devices, lower case.</param>
    /// <param name="exporterWords">The words that name exporters, lower case.</param>
    public ExpressionParser(IEnumerable<string> deviceWords, IEnumerable<string> exporterWords)
    {
        _deviceWords = [.. deviceWords.Order(StringComparer.Ordinal)];
        _exporterWords = [.. exporterWords.Order(StringComparer.Ordinal)];
    }

    /// <summary>The word that a plain path stands for.</summary>
    public static string PathWord => "nvme";

    /// <summary>Parses a device expression or a plain path.</summary>
    /// <param name="source">As the user wrote it.</param>
    /// <returns>The tree; positions count characters of <paramref name="source"/> from 0.</returns>
    /// <exception cref="Errors.DmaBufIoException">Broken (<c>EINVAL</c>); the message points at the character.</exception>
    public DeviceExpression ParseDevice(string source)
    {
        if (source.Length == 0)
            throw DeviceExpression.BrokenAt(
                source,
                0,
                "a device is missing",
                "Write a path, or a word and what it needs, for example nvme:FILE");
        int end = ExpressionReader.WordEnd(source, 0);
        bool isExpression = end > 0 && end < source.Length && source[end] is ':' or '(' && _deviceWords.Contains(
            source[..end],
            StringComparer.Ordinal);
        return isExpression ? new ExpressionReader(source, _deviceWords).ReadWhole() : Path(source, source, 0);
    }

    /// <summary>Parses an exporter expression.</summary>
    /// <param name="source">As the user wrote it.</param>
    /// <returns>The node; it has no members.</returns>
    /// <exception cref="Errors.DmaBufIoException">
    /// Broken, or an unknown word (<c>EINVAL</c>); the message points at the character.
    /// </exception>
    public DeviceExpression ParseExporter(string source)
    {
        int end = ExpressionReader.WordEnd(source, 0);
        string word = source[..end];
        if (!_exporterWords.Contains(word, StringComparer.Ordinal))
            throw DeviceExpression.BrokenAt(
                source,
                0,
                end == 0 ? "an exporter is missing" : $"'{word}' is not a known exporter",
                Known("exporters", _exporterWords));
        return new ExpressionReader(source, _exporterWords).ReadExporter(word);
    }

    internal static string Known(string what, IReadOnlyCollection<string> words) =>
        words.Count == 0
            ? $"No loaded plugin brings {what}: load one that does"
            : $"Known {what}: {string.Join(", ", words)}; plugins bring them";

    internal static DeviceExpression Path(string path, string source, int position) =>
        new(PathWord, path, new Dictionary<string, DeviceOption>(), [], source, position);
}
