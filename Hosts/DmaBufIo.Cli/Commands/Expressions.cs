using System.Text.RegularExpressions;
using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Plugins;

namespace DmaBufIo.Cli.Commands;

/// <summary>Device expressions as users type them.</summary>
internal static partial class Expressions
{
    /// <summary>Parses an expression. What looks like one with an unknown word is refused: taken for a path, it would name a new file.</summary>
    /// <param name="host">Knows the words.</param>
    /// <param name="text">As typed.</param>
    /// <exception cref="DmaBufIoException">Broken, or an unknown word (<c>EINVAL</c>).</exception>
    internal static DeviceExpression Parse(DmaBufIoHost host, string text)
    {
        DeviceExpression expression = host.Parse(text);
        Match word = Word().Match(text);
        bool isPath = expression.Text == text;
        if (isPath && word.Success && !File.Exists(text))
        {
            throw expression.Broken(
                0,
                $"'{word.Groups[1].Value}' is no known device word, and there is no file of this name",
                $"Known words: {string.Join(", ", host.Plugins.DeviceWords)}; a new file of this name is written ./{text}");
        }

        return expression;
    }

    [GeneratedRegex("^([a-z][a-z0-9-]+)[:(]")]
    private static partial Regex Word();
}
