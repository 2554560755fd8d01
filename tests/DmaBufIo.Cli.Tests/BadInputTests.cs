namespace DmaBufIo.Cli.Tests;

public sealed class BadInputTests
{
    [Fact]
    public async Task A_missing_source_is_named_and_no_destination_is_left()
    {
        using var folder = new WorkFolder();
        (await CommandProcess.RunAsync("copy", folder["none"], folder["b"])).AssertRefused("ENOENT", folder["none"]);
        Assert.False(File.Exists(folder["b"]));
    }

    [Fact]
    public async Task A_directory_is_refused_as_source_and_as_destination()
    {
        using var folder = new WorkFolder();
        string source = folder.Random("a", 1);
        (await CommandProcess.RunAsync("copy", folder["."], folder["b"])).AssertRefused("EISDIR", "SRC");
        (await CommandProcess.RunAsync("copy", source, folder["."])).AssertRefused("EISDIR", "DST");
    }

    [Fact]
    public async Task A_destination_equal_to_the_source_is_refused_also_through_links()
    {
        using var folder = new WorkFolder();
        string source = folder.Random("a", 5000);
        File.CreateSymbolicLink(folder["soft"], source);
        string hash = WorkFolder.Hash(source);
        using (var hard = System.Diagnostics.Process.Start("ln", [source, folder["hard"]]))
            await hard.WaitForExitAsync(TestContext.Current.CancellationToken);
        foreach (string destination in new[] { source, folder["soft"], folder["hard"], folder["./a"] })
            (await CommandProcess.RunAsync("copy", source, destination)).AssertRefused("EINVAL", "same file");
        Assert.Equal(hash, WorkFolder.Hash(source));
    }

    [Fact]
    public async Task A_source_that_may_not_be_read_is_refused()
    {
        Assert.SkipWhen(Environment.UserName == "root", "root may read every file");
        using var folder = new WorkFolder();
        string source = folder.Random("a", 1);
        using (var chmod = System.Diagnostics.Process.Start("chmod", ["000", source]))
            await chmod.WaitForExitAsync(TestContext.Current.CancellationToken);
        (await CommandProcess.RunAsync("copy", source, folder["b"])).AssertRefused("EACCES", source);
    }

    [Fact]
    public async Task A_full_disk_is_refused_before_anything_is_copied_and_nothing_is_left()
    {
        using var folder = new WorkFolder();
        Directory.CreateDirectory(folder["small"]);
        string mount = $"mount -t tmpfs -o size=1m none {folder["small"]}";
        CommandProcess.Result possible = await CommandProcess.FinishAsync(CommandProcess.Start(["plugins"], wrapper: mount));
        Assert.SkipWhen(possible.ExitCode != 0, "a file system of one megabyte cannot be mounted here");
        string source = folder.Random("a", 2 << 20);
        CommandProcess.Result result = await CommandProcess.FinishAsync(CommandProcess.Start(["copy", source, folder["small/b"]], wrapper: mount));
        result.AssertRefused("ENOSPC", folder["small/b"]);
    }

    [Theory]
    [InlineData("--buffer", "1000", "page size")]
    [InlineData("--buffer", "0", "page size")]
    [InlineData("--buffer", "x", "not a size")]
    [InlineData("--block", "32M", "do not fit the buffer")]
    [InlineData("--block", "1000", "logical block")]
    [InlineData("--block", "0", "logical block")]
    [InlineData("--lba", "1024", "512 or 4096")]
    [InlineData("--iommu", "loose", "strict, lazy, passthrough")]
    [InlineData("--invalidation", "never", "draining, fenced")]
    [InlineData("--queue-depth", "0", "out of range")]
    [InlineData("--queue-depth", "many", "many")]
    [InlineData("--invalidate-every", "20", "never moves")]
    [InlineData("--via", "teleport", "udmabuf")]
    [InlineData("--frobnicate", "1", "--frobnicate")]
    public async Task An_option_that_makes_no_sense_is_refused_with_what_would(string option, string value, string fragment)
    {
        using var folder = new WorkFolder();
        (await CommandProcess.RunAsync("copy", folder.Random("a", 1), folder["b"], option, value)).AssertRefused(fragment);
        Assert.False(File.Exists(folder["b"]));
    }

    [Theory]
    [InlineData("nvme:")]
    [InlineData("nvme:a,lba=4096,lba=512")]
    [InlineData("nvme:\"a")]
    [InlineData("nvme:a,frob=1")]
    [InlineData("nvme:a,mdts=5000")]
    public async Task A_broken_device_expression_is_refused_at_its_character(string expression)
    {
        using var folder = new WorkFolder();
        (await CommandProcess.RunAsync("copy", expression.Replace("a", folder.Random("a", 1), StringComparison.Ordinal), folder["b"])).AssertRefused("^");
    }

    [Fact]
    public async Task A_pipe_and_a_device_are_refused_and_do_not_hang()
    {
        using var folder = new WorkFolder();
        string source = folder.Random("a", 1);
        using (var make = System.Diagnostics.Process.Start("mkfifo", [folder["pipe"]]))
            await make.WaitForExitAsync(TestContext.Current.CancellationToken);
        (await CommandProcess.RunAsync("copy", folder["pipe"], folder["b"])).AssertRefused("EINVAL", "not a regular file");
        (await CommandProcess.RunAsync("copy", source, folder["pipe"])).AssertRefused("EINVAL", "not a regular file");
        (await CommandProcess.RunAsync("devices", folder["pipe"])).AssertRefused("EINVAL", "neither a regular file nor a block device");
        (await CommandProcess.RunAsync("copy", "/dev/null", folder["b"])).AssertRefused("EINVAL", "not a regular file");
        Assert.True(File.Exists(folder["pipe"]));
    }

    [Theory]
    [InlineData(",ro=on")]
    [InlineData(",lba=3")]
    [InlineData(",bogus=1")]
    [InlineData(",size=1K")]
    [InlineData(",mdts=4K")]
    public async Task A_copy_that_fails_leaves_an_existing_destination_as_it_was(string options)
    {
        using var folder = new WorkFolder();
        string precious = WorkFolder.Hash(folder.Random("b", 10_000, seed: 7));
        (await CommandProcess.RunAsync("copy", folder.Random("a", 100_000), $"nvme:{folder["b"]}{options}")).AssertRefused();
        Assert.Equal(precious, WorkFolder.Hash(folder["b"]));
        Assert.Equal(2, Directory.GetFiles(folder["."]).Length);
    }

    [Fact]
    public async Task A_link_to_the_destination_stays_a_link_and_its_target_is_written()
    {
        using var folder = new WorkFolder();
        string source = folder.Random("a", 100_000);
        folder.Random("b", 10, seed: 7);
        File.CreateSymbolicLink(folder["link"], folder["b"]);
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", source, folder["link"]);
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.NotNull(new FileInfo(folder["link"]).LinkTarget);
        Assert.Equal(WorkFolder.Hash(source), WorkFolder.Hash(folder["b"]));
    }

    [Fact]
    public async Task An_unknown_device_word_is_not_taken_for_the_name_of_a_new_file()
    {
        using var folder = new WorkFolder();
        (await CommandProcess.RunAsync("copy", folder.Random("a", 1), "frob0(a,b)")).AssertRefused("frob0", "nvme", "./frob0(a,b)");
        Assert.False(File.Exists("frob0(a,b)"));
    }

    [Fact]
    public async Task With_json_arguments_that_cannot_be_read_are_an_object_too()
    {
        CommandProcess.Result result = await CommandProcess.RunAsync("bench", "--device", "null:1G", "--frobnicate", "--json");
        Assert.Equal(1, result.ExitCode);
        Assert.False(result.Json.GetProperty("ok").GetBoolean());
        Assert.Contains("--frobnicate", result.Json.GetProperty("error").GetProperty("problem").GetString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--interrupts", null, "Leave --interrupts out")]
    [InlineData("--mapping", "per-request", "--mapping premapped")]
    [InlineData("--plugins", "/nonexistent", "--plugins FOLDER")]
    public async Task What_a_layer_refuses_is_told_with_the_option_that_helps(string option, string? value, string remedy)
    {
        string[] arguments = ["bench", "--device", "null:1M", "--via", "moving", "--buffer", "1M", "--runtime", "100ms", option];
        (await CommandProcess.RunAsync(value is null ? arguments : [.. arguments, value])).AssertRefused(remedy);
    }

    [Fact]
    public async Task With_json_a_failure_is_an_object_too()
    {
        using var folder = new WorkFolder();
        CommandProcess.Result result = await CommandProcess.RunAsync("copy", folder.Random("a", 1), folder["b"], "--lba", "7", "--json");
        result.AssertRefused("--lba");
        Assert.False(result.Json.GetProperty("ok").GetBoolean());
        Assert.Equal("EINVAL", result.Json.GetProperty("error").GetProperty("errno").GetString());
    }

    [Fact]
    public async Task A_missing_plugin_folder_is_named()
    {
        using var folder = new WorkFolder();
        (await CommandProcess.RunAsync("plugins", "--plugins", folder["none"])).AssertRefused("ENOENT", folder["none"]);
    }

    [Fact]
    public async Task A_broken_plugin_is_listed_with_the_reason_and_the_others_work()
    {
        using var folder = new WorkFolder();
        PluginFolders.CopyTo(folder["plugins"]);
        Directory.CreateDirectory(folder["plugins/broken"]);
        await File.WriteAllBytesAsync(folder["plugins/broken/broken.dll"], [0x4d, 0x5a, 1, 2, 3], TestContext.Current.CancellationToken);
        CommandProcess.Result listing = await CommandProcess.RunAsync("plugins", "--plugins", folder["plugins"], "--json");
        Assert.True(listing.ExitCode == 0, listing.ToString());
        Assert.Contains("broken", listing.Output, StringComparison.Ordinal);
        Assert.Contains("Refused", listing.Output, StringComparison.Ordinal);
        CommandProcess.Result copied = await CommandProcess.RunAsync("copy", folder.Random("a", 10_000), folder["b"], "--plugins", folder["plugins"]);
        Assert.True(copied.ExitCode == 0, copied.ToString());
    }

    [Fact]
    public async Task No_command_at_all_says_what_there_is()
    {
        CommandProcess.Result result = await CommandProcess.RunAsync("frob");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("--help", result.Error, StringComparison.Ordinal);
    }
}
