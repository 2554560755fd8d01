using System.Text.RegularExpressions;

namespace DmaBufIo.Packages.Tests;

/// <summary>The templates, under names of a stranger's choice.</summary>
[Collection(YardCollection.Name)]
[Trait("Duration", "Minutes")]
public sealed class TemplateTests(Yard yard)
{
    // Names are what can go wrong here. The same code under its own name is run by the samples, and all contracts of the importer once more by the tutorial.
    private const string Facts = "FullyQualifiedName~N1_|FullyQualifiedName~Acme.Memory|FullyQualifiedName~Acme.Copying";

    // The template, a name, the word that comes of it, and the project of the tests.
    public static TheoryData<string, string, string?, string> Templates => new()
    {
        { "dmabufio-importer", "Acme.Fast_Disk", "acme-fast-disk", "Acme.Fast_Disk.ContractTests" },
        { "dmabufio-exporter", "Acme.Memory", "acme-memory", "Acme.Memory.ContractTests" },
        { "dmabufio-host", "Acme.Copying", null, "Acme.Copying.Tests" },
    };

    [Theory]
    [MemberData(nameof(Templates))]
    public async Task What_a_template_makes_is_green_and_nothing_of_the_sample_shows(string template, string name, string? word, string tests)
    {
        Result result = await yard.OnceAsync("made of templates", TestAsync);

        result.Succeeded();
        Assert.Matches($@"Passed!.* - {Regex.Escape(tests)}\.dll", result.Output);
        string folder = Path.Combine(yard.Root, "templates", name);
        Assert.True(File.Exists(Path.Combine(folder, name + ".slnx")));
        Assert.False(File.Exists(Path.Combine(folder, "nuget.config")));
        string[] sources = [.. Directory.GetFiles(folder, "*", SearchOption.AllDirectories).Where(static f => !f.Contains("/obj/", StringComparison.Ordinal) && !f.Contains("/bin/", StringComparison.Ordinal))];
        foreach (string sample in (string[])["RamDisk", "ramdisk", "MovingRam", "movingram", "FileToDisk"])
        {
            Assert.DoesNotContain(sources, f => f.Contains(sample, StringComparison.Ordinal));

            // The host has a device in its settings as an example.
            if (template != "dmabufio-host" || sample != "ramdisk")
                Assert.DoesNotContain(sources, f => File.ReadAllText(f).Contains(sample, StringComparison.Ordinal));
        }

        if (word is not null)
            Assert.Contains(sources, f => File.ReadAllText(f).Contains($"\"{word}\"", StringComparison.Ordinal));
    }

    // Each by its own command, then all in one build.
    private async Task<Result> TestAsync()
    {
        await yard.InstallTemplatesAsync();
        Shell stranger = yard.StrangerWithFeed("templates");
        foreach (TheoryDataRow<string, string, string?, string> row in Templates)
            (await stranger.DotnetAsync("new", row.Data.Item1, "-n", row.Data.Item2)).Succeeded();
        IEnumerable<string> projects = Directory.GetFiles(stranger.Folder, "*.csproj", SearchOption.AllDirectories).Select(p => $"""<Project Path="{Path.GetRelativePath(stranger.Folder, p)}" />""");
        await File.WriteAllTextAsync(Path.Combine(stranger.Folder, "All.slnx"), $"<Solution>{string.Concat(projects)}</Solution>");
        return await stranger.DotnetAsync("test", "All.slnx", "--filter", Facts);
    }
}
