namespace DmaBufIo.Packages.Tests;

/// <summary>The templates, under names of a stranger's choice.</summary>
[Collection(YardCollection.Name)]
public sealed class TemplateTests(Yard yard)
{
    [Theory]
    [InlineData("dmabufio-importer", "Acme.Fast_Disk", "acme-fast-disk")]
    [InlineData("dmabufio-exporter", "Acme.Memory", "acme-memory")]
    [InlineData("dmabufio-host", "Acme.Copying", null)]
    public async Task What_a_template_makes_is_green_and_nothing_of_the_sample_shows(string template, string name, string? word)
    {
        await yard.InstallTemplatesAsync();
        Shell stranger = yard.StrangerWithFeed("templates");

        (await stranger.DotnetAsync("new", template, "-n", name)).Succeeded();
        Result result = await stranger.DotnetAsync("test", name);

        result.Succeeded().Says("Passed!");
        string folder = Path.Combine(stranger.Folder, name);
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
}
