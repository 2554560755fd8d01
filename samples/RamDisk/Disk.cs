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
internal sealed class Disk : BlockDevice, IDisposable
{
    private readonly IDmaFabric _fabric;
    private readonly MemoryRegion _store;
    private readonly DmaDevice _device;
    private readonly DmaPort _port;

    internal Disk(IDmaFabric fabric, string name, long size)
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

    public override string Description => $"RAM disk of {Capacity} bytes";

    internal ContextSet Contexts { get; } = new();

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth)
    {
        _device.ThrowIfRemoved("RamDisk");
        Contexts.Add(context);
        return new DiskQueue(this, context, bios, depth);
    }

    // Map, unmap and release: Core's driver for devices that reach memory by ranges.
    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => new RangeTokenDriver(buffer, direction, _device);

    /// <summary>Moves the data of a bio. A flush has nothing to do: everything is as durable as it gets.</summary>
    internal Errno Move(in Bio bio, object? backing) =>
        IsRemoved ? Errno.ENODEV
        : bio.Operation == BioOperation.Flush ? Errno.Ok
        : BioTransfer.Move(bio, backing, _device, _port, _store.Span(bio.Sector << 9, (int)bio.Size));

    /// <summary>Removes the disk: what is in flight ends, then every map of it goes (T11).</summary>
    public void Dispose()
    {
        _device.MarkRemoved();
        Contexts.VisitAll(); // who was inside a batch, and perhaps moving data, has left it
        _device.Remove();
        _fabric.RemoveDevice(_device.AddressSpace);
        _store.Dispose();
    }
}
