using BenchmarkDotNet.Attributes;
using DmaBufIo.Errors;
using DmaBufIo.Rings;

namespace DmaBufIo.Benchmarks;

/// <summary>
/// The whole way of a 4 KiB read on a null device, same thread, from the ring's preparation to the completion; beside the same stack in
/// C, and the copy of 4 KiB that it avoids (goals 1 and 2).
/// </summary>
public class RingBenchmarks
{
    private const int Count = 500_000;
    private const int PageMask = (NullStack.BufferSize >> 12) - 1;
    private readonly byte[] _source = new byte[4096];
    private readonly byte[] _destination = new byte[4096];
    private NullStack _stack = null!;
    private CLoops _c = null!;
    private Ring _ring = null!;
    private RingCompletion[] _completions = null!;

    [Params(1, 32, 128)]
    public int Depth { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        _c = new CLoops();
        _stack = new NullStack();
        _ring = new Ring(new RingOptions { Name = "benchmark", Entries = Depth });
        _ring.RegisterBuffer(0, new BufferRegistration { Buffer = _stack.Buffer, File = _stack.File });
        _completions = new RingCompletion[Depth];

        // What is measured is the code that stays.
        for (int i = 0; i < 4; i++)
            CSharp();
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        _ring.Dispose();
        _stack.Dispose();
        _c.Dispose();
    }

    [Benchmark(Baseline = true, OperationsPerInvoke = Count)]
    public long C() => _c.WholeStack(Count, Depth);

    [Benchmark(OperationsPerInvoke = Count)]
    public long CSharp()
    {
        int prepared = 0;
        int ended = 0;
        long sum = 0;
        while (ended < Count)
        {
            prepared = Fill(prepared);
            _ring.Submit();
            ended += Collect(ref sum);
        }

        return sum == Count * (Count - 1L) / 2 ? sum : throw new InvalidOperationException($"sum {sum}");
    }

    [Benchmark(OperationsPerInvoke = Count)]
    public byte CopyOf4KiB()
    {
        for (int i = 0; i < Count; i++)
            _source.AsSpan().CopyTo(_destination);
        return _destination[0];
    }

    private int Fill(int prepared)
    {
        long page = prepared & PageMask;
        while (prepared < Count && _ring.TryReadFixed(_stack.File, 0, page << 12, 4096, page << 12, (ulong)prepared))
        {
            prepared++;
            page = (page + 1) & PageMask;
        }

        return prepared;
    }

    private int Collect(ref long sum)
    {
        int count = _ring.Reap(_completions, 1);
        for (int i = 0; i < count; i++)
        {
            ref readonly RingCompletion completion = ref _completions[i];
            if (completion.Status != Errno.Ok || completion.Bytes != 4096)
                throw new InvalidOperationException($"request {completion.UserData}: {completion.Status}, {completion.Bytes} bytes");
            sum += (long)completion.UserData;
        }

        return count;
    }
}
