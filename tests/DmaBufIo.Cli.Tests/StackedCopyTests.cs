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

    [Fact]
    public async Task A_lost_member_is_read_without_and_comes_back_as_large_as_its_set_when_the_user_says_so()
    {
        using var folder = new WorkFolder();
        string source = folder.Random("src", 2_000_000);
        await Plainly(source, In(folder, "raid1(a,b)"));
        long size = new FileInfo(folder["b"]).Length;
        File.Delete(folder["b"]);

        CommandProcess.Result read = await CommandProcess.RunAsync("copy", In(folder, "raid1(a,b)"), folder["out"], "--length", "2000000", "--json");
        Assert.True(read.ExitCode == 0, read.ToString());
        Assert.Equal(WorkFolder.Hash(source), WorkFolder.Hash(folder["out"]));
        Assert.Contains($"warning: SRC: {folder["b"]} (absent) is missing", read.Error, StringComparison.Ordinal);
        Assert.Contains(folder["b"], Assert.Single(read.Json.GetProperty("warnings").EnumerateArray().ToArray()).GetString(), StringComparison.Ordinal);

        string small = folder.Random("small", 1000);
        CommandProcess.Result refused = await CommandProcess.RunAsync("copy", small, In(folder, "raid1(a,b)"));
        refused.AssertRefused("ENODEV", folder["b"], "degraded");
        Assert.False(File.Exists(folder["b"]));
        await Plainly(small, In(folder, "raid1:degraded(a,b)"));
        Assert.Equal(size, new FileInfo(folder["b"]).Length);
        await Plainly(small, In(folder, "raid1(a,b)")); // in step again
    }

    [Fact]
    public async Task A_file_that_was_made_for_a_set_that_was_there_stays_when_the_copy_fails()
    {
        using var folder = new WorkFolder();
        string source = folder.Random("src", 200_000);
        string members = $"(nvme:{folder["a"]},lba=4096,nvme:{folder["b"]},lba=4096)";
        await Plainly(source, $"raid1{members}");
        File.Delete(folder["b"]);
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", source, $"raid1:degraded{members}", "--block", "512");
        result.AssertRefused("EINVAL", "logical block", $"{folder["b"]} stays");
        Assert.True(File.Exists(folder["b"]));
        await Plainly(source, $"raid1{members}");
    }

    [Fact]
    public async Task One_file_is_not_two_members_also_through_links()
    {
        using var folder = new WorkFolder();
        string source = folder.Random("src", 200_000);
        folder.Random("a", 1 << 20);
        string hash = WorkFolder.Hash(folder["a"]);
        File.CreateSymbolicLink(folder["b"], folder["a"]);
        using (var hard = System.Diagnostics.Process.Start("ln", [folder["a"], folder["c"]]))
            await hard.WaitForExitAsync(TestContext.Current.CancellationToken);
        foreach (string expression in new[] { "raid1(a,a)", "raid1(a,b)", "raid0:64K(a,c)", "extent:data@(raid1(a,b))" })
            (await CommandProcess.RunAsync("copy", source, In(folder, expression))).AssertRefused("EINVAL", "is the same file as");
        Assert.Equal(hash, WorkFolder.Hash(folder["a"]));
    }

    [Theory]
    [InlineData("raid1(a,b)", "linear(a,c)", "member 0 of the mirror")]
    [InlineData("raid1(a,b)", "raid0:64K(c,b)", "member 1 of the mirror")]
    [InlineData("raid1(a,b)", "extent:data@(a)", "member 0 of the mirror")]
    [InlineData("extent:data@(a,b)", "raid1(a,c)", "a device of the volume")]
    [InlineData("extent:data@(a,b)", "linear(a,b)", "a device of the volume")]
    public async Task A_file_that_belongs_to_a_set_is_not_written_past_it(string first, string second, string problem)
    {
        using var folder = new WorkFolder();
        string source = folder.Random("src", 200_000);
        await Plainly(source, In(folder, first));
        string[] before = [WorkFolder.Hash(folder["a"]), WorkFolder.Hash(folder["b"])];
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", source, In(folder, second));
        result.AssertRefused("EBUSY", problem, "dd if=/dev/zero of=", "conv=notrunc");
        Assert.Equal(before, (string[])[WorkFolder.Hash(folder["a"]), WorkFolder.Hash(folder["b"])]);
        Assert.False(File.Exists(folder["c"]));
    }

    [Fact]
    public async Task A_size_is_refused_where_a_copy_takes_it_from_its_source()
    {
        using var folder = new WorkFolder();
        string source = folder.Random("src", 200_000);
        await Plainly(source, In(folder, "extent:data@(a)"));
        (await CommandProcess.RunAsync("copy", source, In(folder, "extent:data,size=foo@(a)"))).AssertRefused("EINVAL", "takes the size from the source", "^");
        (await CommandProcess.RunAsync("copy", In(folder, "extent:data,size=5@(a)"), folder["out"])).AssertRefused("EINVAL", "takes the size from the file", "^");
        (await CommandProcess.RunAsync("copy", In(folder, "extent:nope@(a)"), folder["out"])).AssertRefused("ENOENT", "Name a file that is there: data");
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

    private static async Task Plainly(string source, string destination)
    {
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", source, destination, "--json");
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Empty(result.Json.GetProperty("warnings").EnumerateArray());
    }
}
