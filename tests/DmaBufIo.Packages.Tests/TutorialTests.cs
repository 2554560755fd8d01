using System.Text.RegularExpressions;

namespace DmaBufIo.Packages.Tests;

/// <summary>Follows docs/tutorial.md to the letter: a stranger with an empty folder, the feed and the page.</summary>
[Collection(YardCollection.Name)]
public sealed class TutorialTests(Yard yard)
{
    [Fact]
    public async Task Every_block_of_the_tutorial_does_what_the_page_says()
    {
        Shell stranger = yard.Stranger("artifacts/stranger", home: "home of the tutorial");
        Result? last = null;
        int changes = 0;
        foreach (TutorialBlock block in TutorialPage.Blocks())
        {
            string file = Path.Combine(stranger.Folder, block.File);
            switch (block.Kind)
            {
                case BlockKind.Commands:
                    last = (await stranger.BashAsync(block.Text)).Succeeded();
                    break;
                case BlockKind.FailingCommands:
                    last = (await stranger.BashAsync(block.Text)).Failed();
                    break;
                case BlockKind.Output:
                    AssertWrites(last!, block);
                    break;
                case BlockKind.Change:
                    Change(file, block);
                    changes++;
                    break;
                case BlockKind.Text when File.Exists(file):
                    Assert.True(Occurrences(File.ReadAllText(file), block.Text + "\n") == 1, $"{block.File} does not hold exactly once:\n{block.Text}");
                    break;
                case BlockKind.Text:
                    await File.WriteAllTextAsync(file, block.Text, TestContext.Current.CancellationToken);
                    break;
                default:
                    throw new InvalidOperationException($"{block.Kind} is not a kind of block.");
            }
        }

        // The mistake was made and taken back: what is left is what the template made.
        Assert.Equal(4, changes);
        await yard.InstallTemplatesAsync();
        Shell other = yard.StrangerWithFeed("as-made");
        (await other.DotnetAsync("new", "dmabufio-importer", "-n", "MyDriver")).Succeeded();
        foreach (string source in Directory.GetFiles(Path.Combine(other.Folder, "MyDriver"), "*.cs", SearchOption.AllDirectories))
            Assert.Equal(File.ReadAllText(source), File.ReadAllText(Path.Combine(stranger.Folder, Path.GetRelativePath(other.Folder, source))));
    }

    [Fact]
    public void The_tutorial_has_blocks_of_every_kind() =>
        Assert.Equal(Enum.GetValues<BlockKind>(), [.. TutorialPage.Blocks().Select(static b => b.Kind).Distinct().Order()]);

    [Fact]
    public async Task The_driver_of_the_tutorial_is_small_and_formatted()
    {
        string folder = Path.Combine(Build.RepositoryRoot, "samples", "RamDisk");
        int lines = Directory.GetFiles(folder).Sum(static f => File.ReadLines(f).Count());

        Assert.InRange(lines, 1, 150);
        (await yard.House.DotnetAsync("format", "whitespace", folder, "--folder", "--verify-no-changes")).Succeeded();
    }

    private static void Change(string file, TutorialBlock block)
    {
        (string before, string after) = block.AsChange();
        string text = File.ReadAllText(file);
        Assert.True(Occurrences(text, before) == 1, $"{block.File} does not hold exactly once:\n{before}");
        File.WriteAllText(file, text.Replace(before, after, StringComparison.Ordinal));
    }

    private static int Occurrences(string text, string part) => text.Split(part).Length - 1;

    // Each line somewhere in the output, in this order, however it is indented there.
    private static void AssertWrites(Result last, TutorialBlock block)
    {
        string pattern = string.Join(@"[^\n]*\n(?:[^\n]*\n)*?\s*", block.Lines.Select(static l => Regex.Escape(l.Trim()).Replace("…", @"[^\n]*", StringComparison.Ordinal)));
        Assert.True(Regex.IsMatch(last.Output, pattern), $"The tutorial says that it writes:\n{block.Text}\n{last}");
    }
}
