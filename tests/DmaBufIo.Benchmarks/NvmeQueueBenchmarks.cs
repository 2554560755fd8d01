using BenchmarkDotNet.Attributes;
using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Benchmarks;

/// <summary>The NVMe queue layer alone on a null device, same thread: 4 KiB reads in batches, beside the same loop in C (goal 2).</summary>
public class NvmeQueueBenchmarks : IBioOwner
{
    private const int Count = 500_000;
    private const int PageMask = (NullStack.BufferSize >> 12) - 1;
    private NullStack _stack = null!;
    private CLoops _c = null!;
    private IoContext _context = null!;
    private BioPool _bios = null!;
    private BlockQueue _queue = null!;
    private DmaBufToken _token = null!;
    private DmaMap _map = null!;
    private BioHandle[] _batch = null!;
    private long _sum;
    private int _errors;

    [Params(1, 32, 128)]
    public int Depth { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        _c = new CLoops();
        _stack = new NullStack();
        _context = new IoContext("benchmark");
        _bios = new BioPool(1024);
        int owner = _bios.AddOwner(this);
        _queue = _stack.Device.OpenQueue(_context, _bios, Depth);
        (_token, _map) = _stack.TakeMap(_context);
        _batch = new BioHandle[Depth];
        foreach (ref BioHandle bio in _batch.AsSpan())
        {
            _bios.TryAllocate(BioOperation.Read, _map, 0, 4096, 0, out bio);
            _bios[bio].Owner = owner;
        }

        // What is measured is the code that stays.
        for (int i = 0; i < 4; i++)
            CSharp();
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        _queue.Dispose();
        NullStack.GiveBack(_token, _map, _context);
        _context.Dispose();
        _bios.Dispose();
        _stack.Dispose();
        _c.Dispose();
    }

    [Benchmark(Baseline = true, OperationsPerInvoke = Count)]
    public long C() => _c.NvmeLayer(Count, Depth);

    [Benchmark(OperationsPerInvoke = Count)]
    public long CSharp()
    {
        _sum = 0;
        long page = 0;
        for (int done = 0; done < Count;)
        {
            int count = Math.Min(Depth, Count - done);
            RunBatch(page, done, count);
            page = (page + count) & PageMask;
            done += count;
        }

        bool well = _errors == 0 && _sum == Count * (Count - 1L) / 2;
        return well ? _sum : throw new InvalidOperationException($"{_errors} errors, sum {_sum}");
    }

    void IBioOwner.BioEnded(BioHandle bio)
    {
        ref Bio data = ref _bios[bio];
        _sum += data.Cookie;
        if (data.Status != Errno.Ok)
            _errors++;
    }

    private void RunBatch(long page, int first, int count)
    {
        _context.Enter();
        Span<BioHandle> batch = _batch.AsSpan(0, count);
        for (int i = 0; i < batch.Length; i++)
        {
            ref Bio bio = ref _bios[batch[i]];
            bio.Offset = page << 12;
            bio.Sector = page << 3;
            bio.Cookie = first + i;
            page = (page + 1) & PageMask;
        }

        if (_queue.Submit(batch) != count)
            throw new InvalidOperationException("the queue was full");
        _queue.Commit();
        for (int ended = 0; ended < count;)
        {
            _queue.Poll(256);
            ended += _bios.Dispatch();
        }

        _context.Leave();
    }
}
