using BenchmarkDotNet.Attributes;
using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Io;
using DmaBufIo.Iov;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Tokens;

namespace DmaBufIo.Benchmarks;

/// <summary>
/// A block device's read operation over a puppet device that ends each bio with a status and moves nothing, beside the puppet's queue
/// alone: the difference is the file's (checks, limits, bios).
/// </summary>
public class BlockDeviceFileBenchmarks : IBioOwner
{
    private const int Batch = 32;
    private const Errno Ended = Errno.EIO;
    private readonly IoRequest[] _requests = new IoRequest[Batch];
    private readonly BioHandle[] _one = new BioHandle[1];
    private ModelIommu _iommu = null!;
    private PuppetBlockDevice _device = null!;
    private MovingExporter _exporter = null!;
    private BlockDeviceFile _file = null!;
    private IoContext _context = null!;
    private BioPool _bios = null!;
    private BlockQueue _queue = null!;
    private FileQueue _fileQueue = null!;
    private DmaBufToken _token = null!;
    private DmaMap _map = null!;
    private int _owner;
    private long _ended;

    [GlobalSetup]
    public void Setup()
    {
        _iommu = new ModelIommu(new ModelIommuOptions());
        (DmaAddressSpace space, DmaPort port) = _iommu.AddDevice("puppet0");
        _device = new PuppetBlockDevice("puppet0", space, port, 1 << 20, new QueueLimits(512)) { FailWith = Ended };
        _exporter = MovingExporter.Create("benchmark", 1 << 20);
        _file = new BlockDeviceFile(_device);
        _context = new IoContext("benchmark");
        _bios = new BioPool(2 * Batch);
        _owner = _bios.AddOwner(this);
        _queue = _device.OpenQueue(_context, _bios, Batch);
        _fileQueue = _file.OpenQueue(_context, _bios, Batch);
        (_token, _map) = NullStack.TakeMap(_file, _exporter.Buffer, _context);
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        NullStack.GiveBack(_token, _map, _context);
        _fileQueue.Dispose();
        _queue.Dispose();
        _context.Dispose();
        _bios.Dispose();
        _file.Put();
        _exporter.Buffer.Put();
        _iommu.Dispose();
    }

    [Benchmark(Baseline = true, OperationsPerInvoke = Batch)]
    public long BlockQueueAlone()
    {
        for (int i = 0; i < Batch; i++)
        {
            _bios.TryAllocate(BioOperation.Read, _map, (long)i << 12, 4096, (long)i << 3, out _one[0]);
            _bios[_one[0]].Owner = _owner;
            _bios[_one[0]].Cookie = i;
            _queue.Submit(_one);
        }

        _queue.Commit();
        _queue.Poll(Batch);
        _bios.Dispatch();
        return _ended;
    }

    [Benchmark(OperationsPerInvoke = Batch)]
    public long ReadIter()
    {
        for (int i = 0; i < Batch; i++)
        {
            _requests[i] = new IoRequest { FileOffset = (long)i << 12, Tag = i, BioOwner = _owner };
            var iter = IovIter.ForMap(_map, (long)i << 12, 4096, DmaDirection.FromDevice);
            _fileQueue.ReadIter(ref _requests[i], ref iter);
        }

        _fileQueue.Commit();
        _fileQueue.Poll(Batch);
        _bios.Dispatch();
        return _ended;
    }

    void IBioOwner.BioEnded(BioHandle bio)
    {
        _ended += _bios[bio].Cookie;
        _bios.Release(bio);
    }
}
