using System.Text.RegularExpressions;
using DmaBufIo.Errors;

namespace DmaBufIo.Docs.Tests;

/// <summary>docs/errors has a page for each status that the framework or a plugin of it answers.</summary>
public sealed partial class ErrorPagesTests
{
    [Fact]
    public void There_is_a_page_for_each_status_that_the_sources_use_and_for_no_other()
    {
        string[] used = [.. Repository.Sources("Core", "Plugins")
            .Where(static f => Path.GetFileName(f) != "Errno.cs")
            .SelectMany(static f => Uses().Matches(File.ReadAllText(f)))
            .Select(static m => m.Groups[1].Value)
            .Where(static n => n != nameof(Errno.Ok) && Enum.IsDefined(typeof(Errno), n))
            .Distinct()
            .Order(StringComparer.Ordinal)];
        string[] pages = [.. Directory.GetFiles(Path.Combine(Repository.Root, "docs", "errors"), "*.md")
            .Select(static f => Path.GetFileNameWithoutExtension(f)!)
            .Where(static n => n != "README")
            .Order(StringComparer.Ordinal)];
        Assert.Equal(used, pages);
    }

    [Fact]
    public void The_list_names_each_page_with_its_first_line_in_the_order_of_the_numbers()
    {
        IReadOnlyList<string[]> rows = Repository.Table(Repository.Page("errors/README.md"), "`ArgumentOutOfRangeException`");
        foreach (string[] row in rows)
        {
            string name = Name().Match(row[0]).Groups[1].Value;
            string[] lines = Repository.Page($"errors/{name}.md").Split('\n');
            Assert.Equal($"# {name}", lines[0]);
            Assert.Equal(row[1], lines[2]);
        }

        Errno[] order = [.. rows.Select(static r => Enum.Parse<Errno>(Name().Match(r[0]).Groups[1].Value))];
        Assert.Equal(order.Order(), order);
        Assert.Equal(Directory.GetFiles(Path.Combine(Repository.Root, "docs", "errors"), "E*.md").Length, order.Length);
    }

    [Fact]
    public void A_page_tells_who_answers_the_status_when_by_which_rule_and_what_to_do()
    {
        string rules = Repository.Page("rules.md");
        foreach (string file in Directory.GetFiles(Path.Combine(Repository.Root, "docs", "errors"), "E*.md"))
        {
            string page = File.ReadAllText(file);
            Assert.NotEmpty(Repository.Table(page, "## Who answers it"));
            Assert.Matches("## What to do\n\n- ", page);
            foreach (string rule in Repository.Table(page, "## Who answers it").SelectMany(static r => r[2].Split(", ")).Where(static r => r != "–"))
                Assert.True(Regex.IsMatch(rules, $@"(^\| {rule} \||\b{rule} )", RegexOptions.Multiline), $"{Path.GetFileName(file)} cites {rule}");
        }
    }

    [GeneratedRegex(@"\bErrno\.([A-Z0-9a-z]+)\b")]
    private static partial Regex Uses();

    [GeneratedRegex(@"^\[(E[A-Z]+)\]")]
    private static partial Regex Name();
}
