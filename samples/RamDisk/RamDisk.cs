using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace RamDisk;

/// <summary>A disk in memory, with a DMA engine that works when the doorbell rings.</summary>
internal sealed class RamDisk : BlockDevice, IDisposable
{
    private readonly IDmaFabric _fabric;
    private readonly MemoryRegion _store;
    private readonly DmaDevice _device;
    private readonly DmaPort _port;
    private readonly List<IoContext> _contexts = [];

    internal RamDisk(IDmaFabric fabric, string name, long size)
    {
        _fabric = fabric;
        _store = MemoryRegion.Allocate(name, size);
        (DmaAddressSpace space, _port) = fabric.AddDevice(name);
        _device = new DmaDevice(name, space);
    }

    public override string Name => _device.Name;

    public override long Capacity => _store.Length;

    public override QueueLimits Limits => new(512) { MaxBytes = 1 << 20 };

    public override bool IsRemoved => _device.IsRemoved;

    internal DmaDevice Device => _device;

    public override string Description => $"RAM disk of {Capacity} bytes";

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth)
    {
        lock (_contexts)
        {
            _device.ThrowIfRemoved("RamDisk");
            _contexts.Add(context);
        }

        return new RamDiskQueue(this, context, bios, depth);
    }

    // Map, unmap and release: Core's driver for devices that reach memory by ranges.
    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => new RangeTokenDriver(buffer, direction, _device);

    /// <summary>Moves the data of a bio.</summary>
    internal Errno Move(in Bio bio, object? backing)
    {
        if (IsRemoved)
            return Errno.ENODEV;
        if (bio.Operation == BioOperation.Flush)
            return Errno.Ok; // everything is as durable as it gets
        return BioTransfer.Move(bio, backing, _device, _port, _store.Span(bio.Sector << 9, (int)bio.Size));
    }

    /// <summary>A queue was closed.</summary>
    internal void Forget(IoContext context)
    {
        lock (_contexts)
            _contexts.Remove(context);
    }

    /// <summary>Removes the disk: what is in flight ends, then every map of it goes (T11).</summary>
    public void Dispose()
    {
        // From now on bios end with ENODEV; who is inside a batch may still be moving data, and a visit waits for its end.
        IoContext[] contexts;
        lock (_contexts)
        {
            _device.MarkRemoved();
            contexts = [.. _contexts];
        }

        foreach (IoContext context in contexts)
            context.Visit(static () => { });
        _device.Remove();
        _fabric.RemoveDevice(_device.AddressSpace);
        _store.Dispose();
    }
}
