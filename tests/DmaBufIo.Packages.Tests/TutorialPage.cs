using System.Text.RegularExpressions;

namespace DmaBufIo.Packages.Tests;

/// <summary>What a code block of the tutorial is.</summary>
internal enum BlockKind
{
    /// <summary>Commands, which succeed.</summary>
    Commands,

    /// <summary>Commands, the last of which fails.</summary>
    FailingCommands,

    /// <summary>What the last commands write, among other things; "…" stands for any text.</summary>
    Output,

    /// <summary>A change of a file: lines to take out and lines to put in, with lines beside them.</summary>
    Change,

    /// <summary>A file, or a part of one that is there.</summary>
    Text,
}

/// <summary>A code block of the tutorial.</summary>
/// <param name="Kind">What it is, from the word behind its fence.</param>
/// <param name="File">The last file that was named before it; for changes and texts.</param>
/// <param name="Lines">The block.</param>
internal sealed record TutorialBlock(BlockKind Kind, string File, string[] Lines)
{
    internal string Text => string.Join('\n', Lines);

    /// <summary>The text that a change looks for, and what it puts in its place.</summary>
    internal (string Before, string After) AsChange() => (Side('+'), Side('-'));

    public override string ToString() => $"{Kind} {File}: {Lines.FirstOrDefault()}";

    private string Side(char other) => string.Concat(Lines.Where(l => l[0] != other).Select(static l => l[1..] + "\n"));
}

/// <summary>docs/tutorial.md, block by block.</summary>
internal static partial class TutorialPage
{
    internal static IEnumerable<TutorialBlock> Blocks()
    {
        string file = "";
        string? fence = null;
        var lines = new List<string>();
        foreach (string line in File.ReadLines(Path.Combine(Build.RepositoryRoot, "docs", "tutorial.md")))
        {
            if (fence is null && line.StartsWith("```", StringComparison.Ordinal))
            {
                fence = line[3..];
                lines.Clear();
            }
            else if (fence is not null && line == "```")
            {
                yield return new TutorialBlock(KindOf(fence), file, [.. lines]);
                fence = null;
            }
            else if (fence is not null)
            {
                lines.Add(line);
            }
            else if (FileName().Matches(line) is [.., Match last])
            {
                file = last.Groups[1].Value;
            }
        }

        Assert.Null(fence);
    }

    // A block of another kind would be one that nobody runs.
    private static BlockKind KindOf(string fence) => fence switch
    {
        "sh" => BlockKind.Commands,
        "sh fails" => BlockKind.FailingCommands,
        "text" => BlockKind.Output,
        "diff" => BlockKind.Change,
        "csharp" or "xml" => BlockKind.Text,
        _ => throw new InvalidDataException($"The tutorial has a code block '{fence}' that no test knows how to run."),
    };

    [GeneratedRegex(@"`([\w./-]+\.(?:cs|csproj|config))`")]
    private static partial Regex FileName();
}
