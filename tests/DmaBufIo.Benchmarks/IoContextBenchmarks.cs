using BenchmarkDotNet.Attributes;
using DmaBufIo.Io;

namespace DmaBufIo.Benchmarks;

/// <summary>The frame of a batch: entering and leaving a context, beside its stores and its look at the clock alone.</summary>
public class IoContextBenchmarks
{
    private const int Count = 1024;
    private IoContext _context = null!;
    private volatile bool _visiting;
    private int _active;
    private long _now;

    [GlobalSetup]
    public void Setup()
    {
        _context = new IoContext("benchmark");
        _visiting = Environment.TickCount64 < 0; // false, but not known to the compiler
    }

    [GlobalCleanup]
    public void Cleanup() => _context.Dispose();

    [Benchmark(Baseline = true, OperationsPerInvoke = Count)]
    public long StoresAndClock()
    {
        for (int i = 0; i < Count; i++)
        {
            Volatile.Write(ref _active, 1);
            if (!_visiting)
                _now = Environment.TickCount64;
            Volatile.Write(ref _active, 0);
        }

        return _now;
    }

    [Benchmark(OperationsPerInvoke = Count)]
    public long EnterAndLeave()
    {
        for (int i = 0; i < Count; i++)
        {
            _context.Enter();
            _context.Leave();
        }

        return _context.Now;
    }
}
