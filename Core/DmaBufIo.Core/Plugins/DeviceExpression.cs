using System.Globalization;
using DmaBufIo.Devices;
using DmaBufIo.Errors;

namespace DmaBufIo.Plugins;

/// <summary>
/// One node of a parsed topology expression: <c>WORD[:TEXT][,NAME=VALUE…][(MEMBER,…)]</c>. Made by the host's parser and handed to
/// the factory that owns the word.
/// </summary>
/// <param name="Word">The device or exporter word, lower case.</param>
/// <param name="Text">What follows the colon up to the first option, or null.</param>
/// <param name="Options">The options by name, in the order given; names are lower case.</param>
/// <param name="Members">The devices in parentheses, in order.</param>
/// <param name="Source">The whole expression as the user wrote it.</param>
/// <param name="Position">Where this node begins in <paramref name="Source"/>, in characters from 0.</param>
public sealed record DeviceExpression(
    string Word,
    string? Text,
    IReadOnlyDictionary<string, DeviceOption> Options,
    IReadOnlyList<DeviceExpression> Members,
    string Source,
    int Position)
{
    /// <summary>The node in short, for messages: the text of a device that stands alone, the word and the members of one that stands on others.</summary>
    public string Brief => Members.Count == 0 ? Text ?? Word : $"{Word}({string.Join(",", Members.Select(static m => m.Brief))})";

    /// <summary>Reads an option as a size: digits with an optional suffix K, M, G or T (powers of 1024).</summary>
    /// <param name="name">The option.</param>
    /// <param name="fallback">The value when it was not given.</param>
    /// <returns>Bytes.</returns>
    /// <exception cref="DmaBufIoException">The value is no size (<c>EINVAL</c>); the message points at it.</exception>
    public long Size(string name, long fallback) =>
        !Options.TryGetValue(name, out DeviceOption option) ? fallback
        : TryParseSize(option.Value, out long size) ? size
        : throw Broken(option.Position, $"'{option.Value}' is not a size", "Write digits with an optional suffix K, M, G or T, for example 64K");

    /// <summary>Reads an option as a switch: present without a value, or on/off, true/false, 1/0.</summary>
    /// <param name="name">The option.</param>
    /// <param name="fallback">The value when it was not given.</param>
    /// <exception cref="DmaBufIoException">The value is none of these (<c>EINVAL</c>); the message points at it.</exception>
    public bool Switch(string name, bool fallback) =>
        !Options.TryGetValue(name, out DeviceOption option) ? fallback : option.Value switch
        {
            "" or "on" or "true" or "1" => true,
            "off" or "false" or "0" => false,
            _ => throw Broken(option.Position, $"'{option.Value}' is neither on nor off", $"Write {name}=on or {name}=off"),
        };

    /// <summary>Reads an option as a place in the PCI tree.</summary>
    /// <param name="name">The option.</param>
    /// <returns>The place; null when it was not given.</returns>
    /// <exception cref="DmaBufIoException">The value is no location (<c>EINVAL</c>); the message points at it.</exception>
    public DeviceLocation? Location(string name)
    {
        if (!Options.TryGetValue(name, out DeviceOption option))
            return null;
        try
        {
            return DeviceLocation.Parse(option.Value);
        }
        catch (DmaBufIoException e)
        {
            throw Broken(option.Position, e.Problem, e.Remedy);
        }
    }

    /// <summary>Throws when an option was given that is not in the list, so that a misspelt option is never ignored.</summary>
    /// <param name="known">The names the word understands.</param>
    /// <exception cref="DmaBufIoException">An unknown option (<c>EINVAL</c>); the message points at it.</exception>
    public void AllowOnly(params ReadOnlySpan<string> known)
    {
        foreach ((string name, DeviceOption option) in Options)
        {
            if (!known.Contains(name))
            {
                string list = known.IsEmpty ? "it takes none" : $"it takes {string.Join(", ", known.ToArray())}";
                throw Broken(option.NamePosition, $"'{Word}' has no option '{name}'", $"Remove the option or correct its name; {list}");
            }
        }
    }

    /// <summary>Throws when a text follows the word's colon, for words that take only options.</summary>
    /// <exception cref="DmaBufIoException">A text was given (<c>EINVAL</c>); the message points at it.</exception>
    public void AllowNoText()
    {
        if (Text is not null)
            throw Broken(Position + Word.Length + 1, $"'{Word}' takes no text", $"Write {Word}, or {Word}:NAME=VALUE for its options");
    }

    /// <summary>An error that points at a character of the expression.</summary>
    /// <param name="position">The character, from 0.</param>
    /// <param name="problem">What is wrong there.</param>
    /// <param name="remedy">What to write instead.</param>
    /// <returns>The exception to throw.</returns>
    public DmaBufIoException Broken(int position, string problem, string remedy) => BrokenAt(Source, position, problem, remedy);

    /// <summary>An error that points at a character of an expression that could not be parsed.</summary>
    /// <param name="source">The expression.</param>
    /// <param name="position">The character, from 0.</param>
    /// <param name="problem">What is wrong there.</param>
    /// <param name="remedy">What to write instead.</param>
    /// <returns>The exception to throw.</returns>
    public static DmaBufIoException BrokenAt(string source, int position, string problem, string remedy) => new(
        Errno.EINVAL,
        "Topology",
        "device expression",
        $"{problem} at character {position + 1}\n  {source}\n  {new string(' ', position)}^\n ",
        remedy);

    /// <summary>Parses a size: digits with an optional suffix K, M, G or T (powers of 1024), upper or lower case.</summary>
    /// <param name="text">The text.</param>
    /// <param name="size">Bytes.</param>
    /// <returns>False when it is no size or does not fit 63 bits.</returns>
    public static bool TryParseSize(string text, out long size)
    {
        size = 0;
        int shift = text.Length == 0 ? 0 : char.ToUpperInvariant(text[^1]) switch { 'K' => 10, 'M' => 20, 'G' => 30, 'T' => 40, _ => 0 };
        ReadOnlySpan<char> digits = shift == 0 ? text : text.AsSpan(0, text.Length - 1);
        if (!long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out long value) || value > long.MaxValue >> shift)
            return false;
        size = value << shift;
        return true;
    }
}

/// <summary>One option of an expression.</summary>
/// <param name="Value">As written; empty when only the name was given.</param>
/// <param name="NamePosition">Where the name begins in the expression, in characters from 0.</param>
/// <param name="Position">Where the value begins.</param>
public readonly record struct DeviceOption(string Value, int NamePosition, int Position);
