using BenchmarkDotNet.Attributes;
using DmaBufIo.Sync;

namespace DmaBufIo.Benchmarks;

/// <summary>A reference on the live map and back (T6): the gate, what it must at least do, and what it avoids.</summary>
public class RequestGateBenchmarks
{
    private const int Count = 1024;
    private readonly RequestGate _gate = new(8, static () => { });
    private readonly long[] _counts = new long[64];
    private volatile bool _killed;
    private long _shared;

    // False, but not known to the compiler.
    [GlobalSetup]
    public void Setup() => _killed = Environment.TickCount64 < 0;

    [Benchmark(Baseline = true, OperationsPerInvoke = Count)]
    public int PlainCount()
    {
        int entered = 0;
        long[] counts = _counts;
        for (int i = 0; i < Count; i++)
        {
            Volatile.Write(ref counts[16], counts[16] + 1);
            entered += _killed ? 0 : 1;
            Volatile.Write(ref counts[16], counts[16] - 1);
            entered -= _killed ? 1 : 0;
        }

        return entered;
    }

    [Benchmark(OperationsPerInvoke = Count)]
    public int EnterAndExit()
    {
        int entered = 0;
        for (int i = 0; i < Count; i++)
        {
            if (_gate.TryEnter(0))
                entered++;
            _gate.Exit(0);
        }

        return entered;
    }

    [Benchmark(OperationsPerInvoke = Count)]
    public int SharedInterlockedCount()
    {
        int entered = 0;
        for (int i = 0; i < Count; i++)
        {
            Interlocked.Increment(ref _shared);
            entered += _killed ? 0 : 1;
            Interlocked.Decrement(ref _shared);
        }

        return entered;
    }
}
