using System.Runtime.CompilerServices;
using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci;
using DmaBufIo.Io;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Models.NullDevice;

namespace DmaBufIo.Fixtures.HotPathWorkload;

/// <summary>A driver's queue as a stacking driver uses it: several bios at once, no ring above.</summary>
internal sealed class QueueCalls : IBioOwner, IDisposable
{
    private const int Batch = 4;
    private readonly ModelIommu _iommu = new(new ModelIommuOptions());
    private readonly NvmeBinding _binding;
    private readonly IoContext _context = new("queue calls");
    private readonly BioPool _bios = new(Batch);
    private readonly BioHandle[] _batch = new BioHandle[Batch];
    private readonly BlockQueue _queue;
    private readonly int _owner;
    private long _ended;

    internal QueueCalls()
    {
        var port = new DevicePort(new NullController(new NullControllerOptions(), _iommu));
        _binding = new NvmePciDriver().Probe(port, "null0");
        _owner = _bios.AddOwner(this);
        _queue = _binding.BlockDevices[0].OpenQueue(_context, _bios, Batch);
    }

    public void Dispose()
    {
        _queue.Dispose();
        _context.Dispose();
        _bios.Dispose();
        _binding.Dispose();
        _iommu.Dispose();
    }

    public void BioEnded(BioHandle bio)
    {
        _ended += _bios[bio].Status == Errno.Ok ? 1 : 0;
        _bios.Release(bio);
    }

    internal void Run(int count)
    {
        for (int i = 0; i < count; i++)
            One();
        if (_ended != (long)count * Batch)
            throw new InvalidOperationException($"{_ended} flushes ended well");
        _ended = 0;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void One()
    {
        _context.Enter();
        foreach (ref BioHandle bio in _batch.AsSpan())
        {
            _bios.TryAllocateFlush(out bio);
            _bios[bio].Owner = _owner;
        }

        _queue.Submit(_batch);
        _queue.Commit();
        _queue.Poll(Batch);
        _bios.Dispatch();
        _context.Leave();
    }
}
