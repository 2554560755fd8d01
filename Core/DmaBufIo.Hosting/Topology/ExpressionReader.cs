using System.Text;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;

namespace DmaBufIo.Hosting.Topology;

/// <summary>Reads one expression from left to right. The grammar stands at <see cref="ExpressionParser"/>.</summary>
internal sealed class ExpressionReader(string source, IReadOnlyList<string> words)
{
    // Deep enough for any set of sets; the reader calls itself, and a stack that overflows cannot be caught.
    private const int MaxDepth = 64;

    private int _at;

    private bool AtEnd => _at == source.Length;

    private char Current => AtEnd ? '\0' : source[_at];

    private bool AtMembers => Current == '(' || (Current == '@' && _at + 1 < source.Length && source[_at + 1] == '(');

    /// <summary>The end of the word that begins at a position; the position itself when there is none.</summary>
    internal static int WordEnd(string text, int start)
    {
        int end = start;
        while (end < text.Length && (char.IsAsciiLetterLower(text[end]) || (end > start && IsFurther(text[end]))))
            end++;
        return end;
    }

    internal DeviceExpression ReadWhole()
    {
        DeviceExpression device = ReadDevice(depth: 0);
        return AtEnd ? device : throw Trailing();
    }

    internal DeviceExpression ReadExporter(string word)
    {
        _at = word.Length;
        string? text = null;
        var options = new Dictionary<string, DeviceOption>(StringComparer.Ordinal);
        if (Current == ':')
        {
            _at++;
            if (AtEnd || Current == ',')
                throw Broken(_at, $"nothing stands after '{word}:'", $"Write what {word} needs, or leave the colon out");
            if (AtNamedOption(_at))
                ReadOption(options);
            else
                text = ReadText();
            ReadOptions(options, depth: 0);
        }

        return AtEnd ? new DeviceExpression(word, text, options, [], source, 0) : throw Trailing();
    }

    private DeviceExpression ReadDevice(int depth)
    {
        int start = _at;
        int end = WordEnd(source, _at);
        string word = source[start..end];
        bool isWord = end > start && end < source.Length && source[end] is ':' or '(';
        if (isWord && !words.Contains(word, StringComparer.Ordinal))
            throw Broken(
                start,
                $"'{word}' is not a known device",
                $"{ExpressionParser.Known("devices", words)}. Put a path that looks like a word in double quotes");

        string? text;
        if (isWord)
        {
            _at = end;
            text = Current == ':' ? ReadTextOf(word) : null;
        }
        else
        {
            word = ExpressionParser.PathWord;
            text = ReadText();
            if (AtMembers)
                throw Broken(
                    _at,
                    "a path cannot have members",
                    "Write a word before the parenthesis, or put a path that contains it in double quotes");
        }

        var options = new Dictionary<string, DeviceOption>(StringComparer.Ordinal);
        ReadOptions(options, depth);
        return new DeviceExpression(word, text, options, ReadMembers(depth), source, start);
    }

    private List<DeviceExpression> ReadMembers(int depth)
    {
        var members = new List<DeviceExpression>();
        if (!AtMembers)
            return members;
        if (Current == '@')
            _at++;
        int open = _at++;
        if (depth == MaxDepth)
            throw Broken(open, $"devices are nested more than {MaxDepth} deep", "Use fewer levels");
        do
        {
            SkipSpaces();
            if (Current is ',' or ')')
                throw Broken(_at, "a member is missing", "Write a device before it, or remove the comma");
            if (AtEnd)
                throw Unclosed(open);
            members.Add(ReadDevice(depth + 1));
            SkipSpaces();
        }
        while (Take(','));

        if (AtEnd)
            throw Unclosed(open);
        return Take(')') ? members : throw Broken(_at, $"'{Current}' is not expected here", "Write ',' and the next member, or ')'");
    }

    private string ReadTextOf(string word)
    {
        _at++;
        if (AtEnd || Current is ',' or ')' || AtMembers)
            throw Broken(_at, $"nothing stands after '{word}:'", $"Write what {word} needs, or two double quotes for an empty text");
        return ReadText();
    }

    private void ReadOptions(Dictionary<string, DeviceOption> options, int depth)
    {
        // Inside parentheses a comma may also lead to the next member: only NAME= makes it an option.
        while (Current == ',' && (depth == 0 || AtNamedOption(AfterSpaces(_at + 1))))
        {
            _at = depth == 0 ? _at + 1 : AfterSpaces(_at + 1);
            ReadOption(options);
        }
    }

    private void ReadOption(Dictionary<string, DeviceOption> options)
    {
        int start = _at;
        int end = NameEnd(start);
        if (end == start)
            throw Broken(
                start,
                "the name of an option is missing",
                "Write NAME=VALUE after the comma, or put a text with a comma in double quotes");
        string name = source[start..end].ToLowerInvariant();
        _at = end;
        int position = start;
        string value = "";
        if (Take('='))
        {
            position = _at;
            value = ReadText();
        }
        else if (!AtEnd && Current is not (',' or ')') && !AtMembers)
        {
            throw Broken(
                _at,
                $"'{Current}' does not belong in the name of an option",
                "Write NAME=VALUE; a text with a comma stands in double quotes");
        }

        if (!options.TryAdd(name, new DeviceOption(value, start, position)))
            throw Broken(start, $"option '{name}' is given twice", "Give it once");
    }

    private string ReadText()
    {
        if (Current == '"')
            return ReadQuoted();
        int start = _at;
        while (!AtEnd && Current is not (',' or ')') && !AtMembers)
            _at++;
        return source[start.._at].TrimEnd(' ');
    }

    private string ReadQuoted()
    {
        int open = _at++;
        var text = new StringBuilder();
        while (!AtEnd)
        {
            if (Take('"') && Current != '"')
            {
                SkipSpaces();
                return AtEnd || Current is ',' or ')' || AtMembers ? text.ToString()
                    : throw Broken(
                        _at,
                        "a text goes on after its closing quote",
                        "Put the whole text in quotes, and double each quote in it");
            }

            text.Append(Current);
            _at++;
        }

        throw Broken(open, "the quote is not closed", "Write a double quote at the end of the text");
    }

    private bool AtNamedOption(int start)
    {
        int end = NameEnd(start);
        return end > start && end < source.Length && source[end] == '=';
    }

    private int NameEnd(int start)
    {
        int end = start;
        while (end < source.Length && (char.IsAsciiLetter(source[end]) || (end > start && (IsFurther(source[end]) || source[end] == '_'))))
            end++;
        return end;
    }

    private static bool IsFurther(char c) => char.IsAsciiDigit(c) || c == '-';

    private int AfterSpaces(int start)
    {
        int at = start;
        while (at < source.Length && source[at] == ' ')
            at++;
        return at;
    }

    private void SkipSpaces() => _at = AfterSpaces(_at);

    private bool Take(char wanted)
    {
        if (AtEnd || Current != wanted)
            return false;
        _at++;
        return true;
    }

    private DmaBufIoException Trailing() => Current == ')'
        ? Broken(_at, "')' closes nothing", "Remove it, or put a text that contains it in double quotes")
        : Broken(_at, "the expression has ended before this", "Remove the rest, or put a text with parentheses in double quotes");

    private DmaBufIoException Unclosed(int open) =>
        Broken(_at, $"the parenthesis opened at character {open + 1} is not closed", "Write ')'");

    private DmaBufIoException Broken(int position, string problem, string remedy) => DeviceExpression.BrokenAt(
        source,
        position,
        problem,
        remedy);
}
