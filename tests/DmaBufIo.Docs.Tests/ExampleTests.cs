using System.Text.RegularExpressions;

namespace DmaBufIo.Docs.Tests;

/// <summary>Every block of code of the pages is code of the tests here or of those of the host, which is compiled, and run by the tests beside it.</summary>
public sealed partial class ExampleTests
{
    [Theory]
    [InlineData("driver-protocol.md")]
    [InlineData("hosting.md")]
    public void Every_block_of_code_of_a_page_is_compiled_here(string page)
    {
        string[] compiled = [.. Examples()];
        MatchCollection blocks = Blocks().Matches(Repository.Page(page));
        Assert.NotEmpty(blocks);
        foreach (Match block in blocks)
            Assert.Contains(block.Groups[1].Value, compiled);
    }

    [Fact]
    public void Every_example_is_printed_somewhere()
    {
        string pages = Repository.Page("driver-protocol.md") + Repository.Page("hosting.md");
        foreach (string example in Examples())
            Assert.Contains($"```csharp\n{example}```", pages, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("api.md")]
    [InlineData("driver-protocol.md")]
    [InlineData("hosting.md")]
    [InlineData("logging.md")]
    [InlineData("errors/README.md")]
    public void Every_link_to_a_file_leads_somewhere(string page)
    {
        string folder = Path.GetDirectoryName(Path.Combine(Repository.Root, "docs", page))!;
        foreach (Match link in Links().Matches(Repository.Page(page)))
            Assert.True(Path.Exists(Path.Combine(folder, link.Groups[1].Value)), $"{page} links to {link.Groups[1].Value}");
    }

    private static IEnumerable<string> Examples() => Repository.Sources("tests/DmaBufIo.Docs.Tests", "tests/DmaBufIo.Hosting.Tests")
        .SelectMany(static f => Regions().Matches(File.ReadAllText(f)))
        .Select(static m => Unindented(m.Groups[1].Value));

    private static string Unindented(string code)
    {
        string[] lines = code.TrimEnd('\n').Split('\n');
        int indent = lines.Where(static l => l.Length != 0).Min(static l => l.Length - l.TrimStart(' ').Length);
        return string.Concat(lines.Select(l => (l.Length == 0 ? l : l[indent..]) + "\n"));
    }

    [GeneratedRegex(@"^ *// <example>\n(.*?)\n *// </example>", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Regions();

    [GeneratedRegex(@"^```csharp\n(.*?)^```", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Blocks();

    [GeneratedRegex(@"\]\(([^):#]+)\)")]
    private static partial Regex Links();
}
