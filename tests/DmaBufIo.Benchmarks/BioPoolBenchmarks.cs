using BenchmarkDotNet.Attributes;
using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Tokens;

namespace DmaBufIo.Benchmarks;

/// <summary>A bio's life in its pool: taken, ended, its owner told, given back; beside a plain array with a stack of free places.</summary>
public class BioPoolBenchmarks : IBioOwner
{
    private const int Batch = 32;
    private readonly StillMap _map = new(1 << 20);
    private readonly BioHandle[] _taken = new BioHandle[Batch];
    private readonly Bio[] _plain = new Bio[Batch];
    private readonly int[] _free = new int[Batch];
    private BioPool _bios = null!;
    private int _owner;
    private int _freeCount;
    private long _ended;

    [GlobalSetup]
    public void Setup()
    {
        _bios = new BioPool(Batch);
        _owner = _bios.AddOwner(this);
        for (int i = 0; i < Batch; i++)
            _free[_freeCount++] = i;
    }

    [GlobalCleanup]
    public void Cleanup() => _bios.Dispose();

    [Benchmark(Baseline = true, OperationsPerInvoke = Batch)]
    public long PlainArray()
    {
        for (int i = 0; i < Batch; i++)
        {
            int place = _free[--_freeCount];
            _plain[place] = new Bio { Backing = BioBacking.Map, Offset = (long)i << 12, Size = 4096, Sector = (long)i << 3 };
            _taken[i] = new BioHandle(place);
        }

        for (int i = 0; i < Batch; i++)
        {
            ref Bio bio = ref _plain[_taken[i].Index];
            bio.Status = Errno.Ok;
            _ended += bio.Size;
            _free[_freeCount++] = _taken[i].Index;
        }

        return _ended;
    }

    [Benchmark(OperationsPerInvoke = Batch)]
    public long TakeEndDispatch()
    {
        for (int i = 0; i < Batch; i++)
        {
            _bios.TryAllocate(BioOperation.Read, _map, (long)i << 12, 4096, (long)i << 3, out _taken[i]);
            _bios[_taken[i]].Owner = _owner;
        }

        for (int i = 0; i < Batch; i++)
            _bios.End(_taken[i], Errno.Ok);
        _bios.Dispatch();
        return _ended;
    }

    void IBioOwner.BioEnded(BioHandle bio)
    {
        _ended += _bios[bio].Size;
        _bios.Release(bio);
    }

    private sealed class StillMap(long length) : DmaMap(length, length);
}
