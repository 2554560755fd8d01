using System.Text.Json;

namespace DmaBufIo.Cli.Tests;

/// <summary>Copies to sets of devices and files on devices, and back out again.</summary>
public sealed class StackedCopyTests
{
    [Theory]
    [InlineData("raid0:64K(a,b,c,d)")]
    [InlineData("raid1(a,b)")]
    [InlineData("raid10:64K(a,b,c,d)")]
    [InlineData("linear(a,b,c)")]
    [InlineData("raid0:64K(raid1(a,b),raid1(c,d))")]
    [InlineData("extent:data@(raid1(a,b))")]
    public async Task A_file_goes_in_and_comes_out_exactly_while_the_buffer_moves(string expression)
    {
        const int Size = (3 << 20) + 1234;
        using var folder = new WorkFolder();
        string source = folder.Random("src", Size);
        string set = In(folder, expression);
        await Copy(source, set);
        await Copy(set, folder["out"], "--length", $"{Size}");
        Assert.Equal(WorkFolder.Hash(source), WorkFolder.Hash(folder["out"]));

        // Into what is there already, and from one set to another.
        string second = folder.Random("second", Size - 5000, seed: 2);
        await Copy(second, set);
        await Copy(set, In(folder, "raid0:4K(e,f)"), "--length", $"{Size - 5000}");
        await Copy(In(folder, "raid0:4K(e,f)"), folder["out"], "--length", $"{Size - 5000}");
        Assert.Equal(WorkFolder.Hash(second), WorkFolder.Hash(folder["out"]));
    }

    [Fact]
    public async Task An_extent_file_comes_out_with_its_own_size()
    {
        using var folder = new WorkFolder();
        string source = folder.Random("src", 2_000_001);
        await Copy(source, In(folder, "extent:data@(a,b)"));
        await Copy(In(folder, "extent:data@(a,b)"), folder["out"]);
        Assert.Equal(WorkFolder.Hash(source), WorkFolder.Hash(folder["out"]));
    }

    [Fact]
    public async Task Members_that_were_made_are_removed_when_the_copy_fails_and_those_that_were_there_stay()
    {
        using var folder = new WorkFolder();
        string source = folder.Random("src", 200_000);
        folder.Random("a", 1000);
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", source, In(folder, "raid0:64K(b,a)"), "--json");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("it has 1000 bytes, and the set needs", result.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(folder["b"]));
        Assert.Equal(1000, new FileInfo(folder["a"]).Length);
    }

    [Theory]
    [InlineData("raid0:5K(a,b)", "is no chunk")]
    [InlineData("raid1(a)", "needs 2 or more members")]
    [InlineData("raid10:64K(a,b,c)", "do not make mirrors of 2")]
    [InlineData("extent:(a)", "")]
    [InlineData("raid1(a,src)", "it is the same file as SRC")]
    [InlineData("raid0:64K(a,b", "")]
    public async Task What_is_no_set_is_refused_and_nothing_is_left_behind(string expression, string problem)
    {
        using var folder = new WorkFolder();
        string source = folder.Random("src", 200_000);
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", source, In(folder, expression));
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains(problem, result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", result.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(folder["a"]) || File.Exists(folder["b"]) || File.Exists(folder["c"]));
    }

    /// <summary>Single letters, and src, are files in the folder.</summary>
    private static string In(WorkFolder folder, string expression) =>
        System.Text.RegularExpressions.Regex.Replace(expression, "(?<=[(,])(src|[a-z])(?=[,)]|$)", m => folder[m.Value]);

    private static async Task Copy(string source, string destination, params string[] more)
    {
        CommandProcess.Result result = await CommandProcess.RunAsync(
            ["copy", source, destination, "--via", "moving", "--invalidate-every", "20", "--iommu", "strict", "--buffer", "1M", "--block", "32K", "--json", .. more]);
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.DoesNotContain("warning", result.Error, StringComparison.Ordinal); // no member failed
        JsonElement report = result.Json;
        Assert.Equal((0L, 0L), (report.GetProperty("iommuFaults").GetInt64(), report.GetProperty("staleAccesses").GetInt64()));
        Assert.True(report.GetProperty("invalidations").GetInt64() > 0);
    }
}
