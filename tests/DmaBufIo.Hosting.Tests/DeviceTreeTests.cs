using DmaBufIo.Errors;
using DmaBufIo.Hosting;

namespace DmaBufIo.Tests;

public sealed class DeviceTreeTests : IDisposable
{
    private readonly PluginYard _yard = new();
    private readonly DmaBufIoHost _host;

    public DeviceTreeTests()
    {
        _yard.Add(PluginYard.Good);
        _host = _yard.Start();
        _yard.Journal.Clear();
    }

    public void Dispose()
    {
        _host.Dispose();
        _yard.Dispose();
    }

    [Fact]
    public void A_function_is_made_and_the_driver_that_matches_is_bound_to_it()
    {
        using OpenedDevice device = _host.Open("fake:a,namespaces=2", readOnly: true);

        Assert.Equal("nvme0", device.Name);
        Assert.Equal("fake-driver", device.Root.DriverName);
        Assert.Equal(["good"], device.Root.PluginNames);
        Assert.Equal(["nvme0n1", "nvme0n2"], device.BlockDevices.Select(static d => d.Name));
        Assert.Equal("fake:a,namespaces=2", device.Expression.Source);
        Assert.Equal(["create a read-only", "probe a as nvme0"], _yard.Journal);
        Assert.Same(device, Assert.Single(_host.Devices));
        Assert.Contains("2 block devices", Assert.Throws<DmaBufIoException>(() => device.BlockDevice).Problem);
    }

    [Fact]
    public void Closing_a_tree_closes_what_stands_on_others_first()
    {
        OpenedDevice device = _host.Open("pair(fake:a,pair(fake:b))");
        Assert.Equal("pair(nvme0n1,pair(nvme1n1))", device.BlockDevice.Name);
        Assert.Equal(["nvme0", "pair(nvme1n1)"], device.Root.Members.Select(static m => m.Name));
        Assert.Equal("pair", device.Root.DriverName);
        _yard.Journal.Clear();

        device.Dispose();
        device.Dispose();

        Assert.Equal(
            ["dispose pair(nvme0n1,pair(nvme1n1))", "dispose pair(nvme1n1)", "remove nvme1", "dispose function b", "remove nvme0", "dispose function a"],
            _yard.Journal);
        Assert.Empty(_host.Devices);
        Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => device.BlockDevice).Errno);
    }

    [Theory]
    [InlineData("pair(fake:a,fake:b,fail=create)", "there is no such thing")]
    [InlineData("pair(fake:a,fake:b,fail=probe)", "it does not answer")]
    [InlineData("pair(fake:a,fake:b,vendor=1)", "no driver matches vendor 0001 device 0001 class 010802")]
    [InlineData("pair(fake:a,fake:b,namespaces=2)", "nvme1 has 2 block devices, and a member is exactly one at character 13")]
    [InlineData("pair(fake:a,fake:b,namespaces=0)", "nvme1 has 0 block devices")]
    [InlineData("pair(fake:a,fake:b(fake:c))", "'fake' stands on no other device at character 20")]
    [InlineData("pair(fake:a,fake:b,colour=red)", "'fake' has no option 'colour' at character 20")]
    public void A_failure_half_way_closes_what_was_opened(string expression, string problem)
    {
        var error = Assert.Throws<DmaBufIoException>(() => _host.Open(expression));

        Assert.StartsWith(problem, error.Problem);
        AssertNothingLeft();
    }

    [Fact]
    public void A_driver_that_throws_when_it_is_asked_keeps_nothing_of_the_one_that_was_chosen_before_it()
    {
        _host.Plugins.Load(_yard.AddRenamed(PluginYard.Faulty, "MatchesThrows"));

        Assert.Equal("the match is broken", Assert.Throws<InvalidOperationException>(() => _host.Open("fake:a")).Message);

        _host.Plugins.Unload("MatchesThrows");
        AssertNothingLeft();
        _host.Plugins.Unload("good");
    }

    [Fact]
    public void A_device_that_cannot_be_stacked_leaves_its_members_closed()
    {
        Assert.Throws<InvalidOperationException>(() => _host.Open("pair:x,fail(fake:a,fake:b)"));

        Assert.Equal(["remove nvme1", "dispose function b", "remove nvme0", "dispose function a"], _yard.Journal.TakeLast(4));
        AssertNothingLeft();
    }

    [Fact]
    public void A_failure_in_closing_after_a_failure_tells_both_and_closes_the_rest()
    {
        var error = Assert.Throws<AggregateException>(() => _host.Open("pair(fake:a,fake:b,fail=probe-dispose)"));

        Assert.Contains("it does not answer", error.InnerExceptions[0].Message);
        Assert.Equal("the function cannot be disposed", error.InnerExceptions[1].Message);
        AssertNothingLeft();
    }

    [Fact]
    public void A_member_that_fails_to_close_does_not_keep_the_others_open()
    {
        OpenedDevice device = _host.Open("pair(fake:a,fail=remove,fake:b,fail=remove)");

        var error = Assert.Throws<AggregateException>(device.Dispose);

        Assert.Equal(["nvme1 cannot be removed", "nvme0 cannot be removed"], error.InnerExceptions.Select(static e => e.Message));
        AssertNothingLeft();
    }

    [Fact]
    public void Names_are_unique_among_the_open_and_free_numbers_are_used_again()
    {
        OpenedDevice first = _host.Open("fake:a");
        using OpenedDevice second = _host.Open("fake:b");
        Assert.Throws<DmaBufIoException>(() => _host.Open("fake:c,fail=probe"));
        first.Dispose();
        using OpenedDevice third = _host.Open("fake:c");
        using OpenedDevice fourth = _host.Open("fake:d");

        Assert.Equal(["nvme1", "nvme0", "nvme2"], [second.Name, third.Name, fourth.Name]);
        Assert.Equal([second, third, fourth], _host.Devices);
    }

    [Fact]
    public void A_function_that_is_no_storage_is_named_after_its_word()
    {
        using OpenedDevice device = _host.Open($"fake:a,class={0x020000}");

        Assert.Equal("fake0", device.Name);
    }

    [Fact]
    public void A_path_needs_a_plugin_with_the_word_nvme()
    {
        var error = Assert.Throws<DmaBufIoException>(() => _host.Open("/tmp/a.bin"));

        Assert.Equal(Errno.EINVAL, error.Errno);
        Assert.Contains("'nvme' is not a known device", error.Problem);
        Assert.Contains("fake, pair", error.Remedy);
    }

    [Theory]
    [InlineData("fajk:a")]
    [InlineData("fajk")]
    public void A_word_that_is_misspelt_is_the_one_that_is_not_known(string expression)
    {
        var error = Assert.Throws<DmaBufIoException>(() => _host.Open(expression));

        Assert.StartsWith("'fajk' is not a known device", error.Problem, StringComparison.Ordinal);
        Assert.Contains("fake, pair", error.Remedy);
    }

    [Fact]
    public void A_function_can_be_reset_and_a_device_on_others_cannot()
    {
        using OpenedDevice device = _host.Open("pair(fake:a)");

        device.Root.Members[0].Reset();

        Assert.Contains("reset nvme0", _yard.Journal);
        Assert.Equal((false, true), (device.Root.CanReset, device.Root.Members[0].CanReset));
        var error = Assert.Throws<DmaBufIoException>(device.Root.Reset);
        Assert.Equal((Errno.EOPNOTSUPP, "Reset one of its members"), (error.Errno, error.Remedy));
        device.Dispose();
        Assert.False(device.Root.Members[0].CanReset);
        Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(device.Root.Members[0].Reset).Errno);
    }

    [Fact]
    public void A_block_device_that_implements_it_has_a_reset_of_its_own_also_on_others()
    {
        using OpenedDevice device = _host.Open("pair:x,resets(fake:a,pair:y,resets=on)");
        Assert.True(device.Root.CanReset);
        _yard.Journal.Clear();

        device.Root.Reset();
        device.Root.Members[1].Reset();

        Assert.Equal(["reset pair(nvme0n1,pair())", "reset pair()"], _yard.Journal);
    }

    [Fact]
    public void T11_a_block_device_without_a_reset_says_how_to_have_one()
    {
        using OpenedDevice device = _host.Open("pair:x");

        Assert.False(device.Root.CanReset);
        var error = Assert.Throws<DmaBufIoException>(device.Root.Reset);
        Assert.Equal((Errno.EOPNOTSUPP, "T11"), (error.Errno, error.Rule));
        Assert.Contains("IResettable", error.Remedy, StringComparison.Ordinal);
        device.Dispose();
        Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(device.Root.Reset).Errno);
    }

    [Fact]
    public void A_buffer_is_made_moved_and_freed()
    {
        ExportedBuffer buffer = _host.CreateBuffer("plain:colour=red", "b0", 8192);

        Assert.Equal(("b0", "plain", "good", true), (buffer.Name, buffer.Expression.Word, buffer.PluginName, buffer.CanMove));
        Assert.Equal(8192, buffer.Buffer.Size);
        Assert.NotNull(buffer.Mover);
        long before = buffer.Buffer.Generation;
        Assert.Equal(0, buffer.Move(TestContext.Current.CancellationToken).KilledMaps);
        Assert.Equal(before + 1, buffer.Buffer.Generation);
        Assert.Same(buffer, Assert.Single(_host.Buffers));

        buffer.Dispose();
        buffer.Dispose();

        Assert.Equal(["export b0", "move b0", "free b0"], _yard.Journal);
        Assert.Empty(_host.Buffers);
    }

    [Theory]
    [InlineData("plain", 0, "not a positive multiple of the page size")]
    [InlineData("plain", -4096, "not a positive multiple of the page size")]
    [InlineData("plain", 4095, "not a positive multiple of the page size")]
    [InlineData("plane", 4096, "'plane' is not a known exporter")]
    [InlineData("plain:colour=red,size=1", 4096, "'plain' has no option 'size' at character 18")]
    public void A_buffer_that_cannot_be_made_is_refused(string expression, long size, string problem)
    {
        var error = Assert.Throws<DmaBufIoException>(() => _host.CreateBuffer(expression, "b0", size));

        Assert.Equal(Errno.EINVAL, error.Errno);
        Assert.Contains(problem, error.Problem);
        Assert.Empty(_host.Buffers);
    }

    [Fact]
    public void Disposing_the_host_closes_devices_newest_first_then_buffers_then_the_plugins()
    {
        _host.CreateBuffer("plain", "b0", 4096);
        _host.Open("fake:a");
        _host.Open("fake:b");
        _yard.Journal.Clear();

        _host.Dispose();

        Assert.Equal(
            ["remove nvme1", "dispose function b", "remove nvme0", "dispose function a", "free b0", "scope disposed"],
            _yard.Journal);
        Assert.Throws<ObjectDisposedException>(() => _host.Open("fake:c"));
    }

    private void AssertNothingLeft()
    {
        Assert.Empty(_host.Devices);
        string[] lines = [.. _yard.Journal];
        Assert.Equal(
            lines.Count(static l => l.StartsWith("create ", StringComparison.Ordinal) && !l.Contains('(')),
            lines.Count(static l => l.StartsWith("dispose function", StringComparison.Ordinal)));
        Assert.Equal(
            lines.Count(static l => l.StartsWith("probe ", StringComparison.Ordinal)),
            lines.Count(static l => l.StartsWith("remove ", StringComparison.Ordinal)));
        using OpenedDevice next = _host.Open("fake:next");
        Assert.Equal("nvme0", next.Name);
    }
}
