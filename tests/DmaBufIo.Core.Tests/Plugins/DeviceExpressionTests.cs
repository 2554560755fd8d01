using DmaBufIo.Errors;
using DmaBufIo.Plugins;

namespace DmaBufIo.Tests.Plugins;

public sealed class DeviceExpressionTests
{
    private const string Source = "raid0:64K(nvme:disk,lba=4096,polled,x=yes)";

    [Theory]
    [InlineData("0", 0)]
    [InlineData("512", 512)]
    [InlineData("64K", 65536)]
    [InlineData("64k", 65536)]
    [InlineData("3M", 3L << 20)]
    [InlineData("5G", 5L << 30)]
    [InlineData("2T", 2L << 40)]
    [InlineData("9223372036854775807", long.MaxValue)]
    [InlineData("8388607T", 8388607L << 40)]
    public void A_size_is_digits_with_an_optional_suffix(string text, long size)
    {
        Assert.True(DeviceExpression.TryParseSize(text, out long parsed));
        Assert.Equal(size, parsed);
        Assert.Equal(size, With("lba", text).Size("lba", -1));
    }

    [Theory]
    [InlineData("")]
    [InlineData("K")]
    [InlineData("-1")]
    [InlineData("+1")]
    [InlineData(" 1")]
    [InlineData("1 K")]
    [InlineData("1KB")]
    [InlineData("1.5K")]
    [InlineData("0x10")]
    [InlineData("1,000")]
    [InlineData("8388608T")]
    [InlineData("9223372036854775808")]
    public void What_is_no_size_or_does_not_fit_is_refused(string text)
    {
        Assert.False(DeviceExpression.TryParseSize(text, out _));
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => With("lba", text).Size("lba", 1));
        Assert.Equal(Errno.EINVAL, refused.Errno);
        AssertPointsAt(refused, Source.IndexOf("4096", StringComparison.Ordinal));
    }

    [Fact]
    public void An_option_that_was_not_given_has_its_default()
    {
        DeviceExpression expression = With("lba", "4096");
        Assert.Equal(7, expression.Size("other", 7));
        Assert.True(expression.Switch("other", true));
        Assert.False(expression.Switch("other", false));
    }

    [Theory]
    [InlineData("", true)]
    [InlineData("on", true)]
    [InlineData("true", true)]
    [InlineData("1", true)]
    [InlineData("off", false)]
    [InlineData("false", false)]
    [InlineData("0", false)]
    public void A_switch_is_on_when_it_is_named_and_says_on_or_off(string text, bool on)
    {
        Assert.Equal(on, With("polled", text).Switch("polled", !on));
    }

    [Fact]
    public void A_switch_that_is_neither_points_at_its_value()
    {
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => With("x", "yes").Switch("x", false));
        AssertPointsAt(refused, Source.IndexOf("yes", StringComparison.Ordinal));
        Assert.Contains("x=on", refused.Remedy, StringComparison.Ordinal);
    }

    [Fact]
    public void An_unknown_option_points_at_its_name_and_tells_the_known_ones()
    {
        DeviceExpression expression = With("lba", "4096");
        expression.AllowOnly("lba", "polled");
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => expression.AllowOnly("size", "polled"));
        AssertPointsAt(refused, Source.IndexOf("lba", StringComparison.Ordinal));
        Assert.Contains("size, polled", refused.Remedy, StringComparison.Ordinal);
        Assert.Contains("takes none", Assert.Throws<DmaBufIoException>(() => expression.AllowOnly()).Remedy, StringComparison.Ordinal);
    }

    private static void AssertPointsAt(DmaBufIoException refused, int position)
    {
        Assert.Equal(("Topology", Errno.EINVAL), (refused.Layer, refused.Errno));
        string[] lines = refused.Problem.Split('\n');
        Assert.Equal(Source, lines[1].TrimStart());
        Assert.Equal(lines[1].IndexOf(Source, StringComparison.Ordinal) + position, lines[2].IndexOf('^', StringComparison.Ordinal));
        Assert.Contains($"character {position + 1}", lines[0], StringComparison.Ordinal);
    }

    private static DeviceExpression With(string name, string value)
    {
        int at = Source.IndexOf(name, StringComparison.Ordinal);
        var option = new DeviceOption(value, at, at + name.Length + 1);
        var options = new Dictionary<string, DeviceOption> { [name] = option };
        return new DeviceExpression("nvme", "disk", options, [], Source, Source.IndexOf("nvme", StringComparison.Ordinal));
    }
}
