namespace DmaBufIo.Docs.Tests;

/// <summary>The files of the repository that the tests were built from.</summary>
internal static class Repository
{
    internal static string Root { get; } = Find();

    internal static string Page(string name) => File.ReadAllText(Path.Combine(Root, "docs", name));

    /// <summary>The source files of a folder, without what builds leave behind.</summary>
    internal static IEnumerable<string> Sources(params string[] folders) => folders
        .SelectMany(static f => Directory.EnumerateFiles(Path.Combine(Root, f), "*.cs", SearchOption.AllDirectories))
        .Where(static f => !f.Contains($"{Path.DirectorySeparatorChar}obj{Path.DirectorySeparatorChar}", StringComparison.Ordinal)
            && !f.Contains($"{Path.DirectorySeparatorChar}bin{Path.DirectorySeparatorChar}", StringComparison.Ordinal));

    /// <summary>The rows of the first table after a line, without its head: the cells of each, trimmed.</summary>
    internal static IReadOnlyList<string[]> Table(string page, string after)
    {
        string[] lines = page.Split('\n');
        int start = Array.FindIndex(lines, l => l.StartsWith(after, StringComparison.Ordinal));
        Assert.True(start >= 0, $"the page has no line '{after}'");
        return [.. lines.Skip(start + 1).SkipWhile(static l => !l.StartsWith('|')).TakeWhile(static l => l.StartsWith('|')).Skip(2).Select(static l =>
            l.Trim().Trim('|').Split('|').Select(static c => c.Trim()).ToArray())];
    }

    private static string Find()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "Framework.sln")))
            folder = Path.GetDirectoryName(folder);
        return folder ?? throw new InvalidOperationException($"No repository above {AppContext.BaseDirectory}.");
    }
}
