using DmaBufIo.Cli.Baseline;

namespace DmaBufIo.HotPath.Tests;

public sealed class BaselineTests
{
    private const long Iterations = 10_007; // no multiple of a depth: the last batch is shorter
    private const ulong Sum = Iterations * (Iterations - 1) / 2;

    [Theory]
    [InlineData(1)]
    [InlineData(32)]
    [InlineData(512)]
    public void The_loops_in_C_end_every_request_once_and_well(int depth)
    {
        using CBaseline? baseline = CBaseline.TryBuild(out string reason);
        Assert.SkipWhen(baseline is null, reason);
        CMeasurement layer = baseline.NvmeLayer(Iterations, depth);
        CMeasurement stack = baseline.WholeStack(Iterations, depth);
        Assert.Equal((Sum, Sum), (layer.Checksum, stack.Checksum));
        Assert.True(layer.Nanoseconds > 0 && stack.Nanoseconds > 0, $"{layer}, {stack}");
    }

    [Fact]
    public void A_missing_compiler_is_answered_with_a_reason()
    {
        Assert.Null(CBaseline.TryBuild(out string reason, ["no-such-compiler"]));
        Assert.Contains("no-such-compiler", reason, StringComparison.Ordinal);
    }

    [Fact]
    public void A_compiler_that_fails_is_answered_with_what_it_says()
    {
        // Takes any arguments and fails.
        Assert.Null(CBaseline.TryBuild(out string reason, ["false"]));
        Assert.Contains("exit code 1", reason, StringComparison.Ordinal);
    }

    [Fact]
    public void A_compiler_that_makes_nothing_is_answered_with_a_reason()
    {
        Assert.Null(CBaseline.TryBuild(out string reason, ["true"]));
        Assert.Contains("could not be compiled or loaded", reason, StringComparison.Ordinal);
    }

    [Fact]
    public void Nothing_is_left_in_the_folder_for_temporary_files()
    {
        using CBaseline? baseline = CBaseline.TryBuild(out string reason);
        Assert.SkipWhen(baseline is null, reason);
        string mapped = File.ReadAllLines("/proc/self/maps").First(static l => l.Contains("dmabufio-baseline-", StringComparison.Ordinal));
        string folder = Path.GetDirectoryName(mapped[mapped.IndexOf('/', StringComparison.Ordinal)..].Split(" (deleted)")[0])!;
        Assert.False(Directory.Exists(folder), folder);
    }
}
