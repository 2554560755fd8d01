using System.Reflection;
using System.Text.RegularExpressions;
using DmaBufIo.ContractTests;
using DmaBufIo.Hosting;
using DmaBufIo.Models;
using DmaBufIo.Rings;

namespace DmaBufIo.Docs.Tests;

/// <summary>docs/api.md lists every public type, once, under its assembly.</summary>
public sealed partial class ApiListTests
{
    public static TheoryData<string> Assemblies => [.. new[] { typeof(Ring), typeof(DmaBufIoHost), typeof(ModelsPlugin), typeof(ImporterContract) }.Select(static t => t.Assembly.GetName().Name!)];

    [Theory]
    [MemberData(nameof(Assemblies))]
    public void Every_public_type_is_listed_once_and_nothing_else_is(string assembly)
    {
        string[] types = [.. Assembly.Load(assembly).GetExportedTypes().Where(static t => !t.IsNested).Select(Name).Order(StringComparer.Ordinal)];
        string[] listed = [.. Rows(assembly).Select(static r => r[0].Trim('`')).Order(StringComparer.Ordinal)];
        Assert.Empty(types.Except(listed));
        Assert.Empty(listed.Except(types));
        Assert.Equal(types, listed);
    }

    [Fact]
    public void Each_row_says_whom_the_type_serves_and_what_it_is() =>
        Assert.All(Assemblies.SelectMany(static a => Rows((string)a.Data)), static r =>
        {
            Assert.Equal(3, r.Length);
            Assert.All(r[1].Split(' '), static who => Assert.Contains(who, new[] { "P", "H", "C" }));
            Assert.NotEmpty(r[2]);
        });

    private static string Name(Type type) => Generic().Replace(type.Name, "<T>");

    /// <summary>The rows of all tables of an assembly's chapter.</summary>
    private static IEnumerable<string[]> Rows(string assembly)
    {
        string[] chapter = [.. Repository.Page("api.md").Split('\n')
            .SkipWhile(l => l != $"## {assembly}")
            .Skip(1)
            .TakeWhile(static l => !l.StartsWith("## ", StringComparison.Ordinal))];
        Assert.True(chapter.Length != 0, $"docs/api.md has no chapter '## {assembly}'");
        return chapter.Where(static l => l.StartsWith("| `", StringComparison.Ordinal))
            .Select(static l => l.Trim().Trim('|').Split('|').Select(static c => c.Trim()).ToArray());
    }

    [GeneratedRegex("`[0-9]+$")]
    private static partial Regex Generic();
}
