using System.Runtime.CompilerServices;
using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Iov;
using DmaBufIo.Memory;

namespace DmaBufIo.Fixtures.HotPathWorkload;

/// <summary>
/// The parts of the request path that a ring over an NVMe device does not pass: page-backed bios, and copies as stacking drivers make
/// them.
/// </summary>
internal sealed class DirectCalls : IBioOwner, IDisposable
{
    private readonly BioPool _bios = new(4);
    private readonly MemoryRegion _region = MemoryRegion.Allocate("direct", 65536);
    private readonly IovIter _iter;
    private readonly int _owner;
    private long _ended;

    internal DirectCalls()
    {
        _owner = _bios.AddOwner(this);
        _iter = IovIter.ForBioVec([new MemoryRange(_region, 0, 4096), new MemoryRange(_region, 8192, 4096)], DmaDirection.FromDevice);
    }

    public void Dispose()
    {
        _bios.Dispose();
        _region.Dispose();
    }

    public void BioEnded(BioHandle bio)
    {
        _ended += _bios[bio].Size;
        _bios.Release(bio);
    }

    internal void Run(int count)
    {
        for (int i = 0; i < count; i++)
            One();
        if (_ended != count * 16384L)
            throw new InvalidOperationException($"{_ended} bytes ended");
        _ended = 0;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void One()
    {
        IovIter iter = _iter;
        while (iter.Count > 0)
        {
            MemoryRange memory = iter.CurrentMemory;
            if (!_bios.TryAllocate(BioOperation.Read, memory, 0, out BioHandle bio))
                return;
            Send(bio);
            iter.Advance(memory.Length);
        }

        _bios.Dispatch();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void Send(BioHandle bio)
    {
        if (!_bios.TryClone(bio, out BioHandle clone) || !ReferenceEquals(_bios.RegionOf(clone), _region) || _bios.MapOf(clone) is not null)
            return;

        // Half of it, and back: what a stacking driver does with a clone at a member's boundary.
        _bios[clone].Advance(2048);
        _bios[clone].Advance(-2048);
        _bios[bio].Owner = _owner;
        _bios[clone].Owner = _owner;
        _bios.End(bio, Errno.Ok);
        _bios.End(clone, Errno.Ok);
    }
}
