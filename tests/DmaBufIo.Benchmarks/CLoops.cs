using DmaBufIo.Cli.Baseline;

namespace DmaBufIo.Benchmarks;

/// <summary>The loops in C, or the reason why there are none: then their benchmarks fail alone, and the others run.</summary>
internal sealed class CLoops : IDisposable
{
    private readonly CBaseline? _baseline;
    private readonly string _reason;

    internal CLoops()
    {
        _baseline = CBaseline.TryBuild(out _reason);
        Console.WriteLine(_baseline is null ? $"// {_reason}" : $"// C baseline: {_baseline.Compiler}");
    }

    internal long NvmeLayer(long iterations, int depth) => Loops.NvmeLayer(iterations, depth).Nanoseconds;

    internal long WholeStack(long iterations, int depth) => Loops.WholeStack(iterations, depth).Nanoseconds;

    private CBaseline Loops => _baseline ?? throw new NotSupportedException(_reason);

    public void Dispose() => _baseline?.Dispose();
}
