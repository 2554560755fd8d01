using BenchmarkDotNet.Attributes;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Benchmarks;

/// <summary>
/// The one reference of a request (T16): looked up in the token, taken, dropped; beside a published object and a plain count.
/// </summary>
public class TokenBenchmarks
{
    private const int Count = 1024;
    private readonly long[] _counts = new long[64];
    private NullStack _stack = null!;
    private IoContext _context = null!;
    private DmaBufToken _token = null!;
    private DmaMap _map = null!;
    private object? _live = new();
    private volatile bool _killed;

    [GlobalSetup]
    public void Setup()
    {
        _stack = new NullStack();
        _context = new IoContext("benchmark");
        (_token, _map) = _stack.TakeMap(_context);
        _context.Enter();
        _killed = Environment.TickCount64 < 0; // false, but not known to the compiler
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        _context.Leave();
        NullStack.GiveBack(_token, _map, _context);
        _context.Dispose();
        _stack.Dispose();
    }

    [Benchmark(Baseline = true, OperationsPerInvoke = Count)]
    public int PlainCount()
    {
        int taken = 0;
        long[] counts = _counts;
        for (int i = 0; i < Count; i++)
        {
            object? live = Volatile.Read(ref _live);
            if (live is null)
                continue;
            Volatile.Write(ref counts[16], counts[16] + 1);
            taken += _killed ? 0 : 1;
            Volatile.Write(ref counts[16], counts[16] - 1);
            taken -= _killed ? 1 : 0;
        }

        return taken;
    }

    [Benchmark(OperationsPerInvoke = Count)]
    public int TryGetMapAndDrop()
    {
        int taken = 0;
        for (int i = 0; i < Count; i++)
        {
            if (_token.TryGetMap(_context) is not { } map)
                continue;
            taken++;
            DmaBufToken.Drop(map, _context);
        }

        return taken;
    }
}
