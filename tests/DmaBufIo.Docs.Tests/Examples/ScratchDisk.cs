using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Docs.Tests.Examples;

/// <summary>The device of the page for driver authors: a disk in memory that works when it is told to.</summary>
internal sealed class ScratchDisk : BlockDevice, IResettable, IDisposable
{
    private readonly IDmaFabric _fabric;
    private readonly MemoryRegion _store = MemoryRegion.Allocate("scratch", 1 << 20);
    private readonly DmaDevice _device;
    private readonly DmaPort _port;
    private readonly Lock _queuesLock = new();
    private readonly List<ScratchQueue> _queues = [];

    internal ScratchDisk(IDmaFabric fabric)
    {
        _fabric = fabric;
        (DmaAddressSpace space, _port) = fabric.AddDevice("scratch");
        _device = new DmaDevice("scratch", space);
    }

    public override string Name => _device.Name;

    public override long Capacity => _store.Length;

    public override QueueLimits Limits => new(512) { MaxBytes = 64 << 10 };

    public override bool IsRemoved => _device.IsRemoved;

    public override string Description => "a disk in memory";

    internal Span<byte> Contents => _store.Span(0, (int)_store.Length);

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth)
    {
        _device.ThrowIfRemoved("scratch");
        var queue = new ScratchQueue(this, bios, depth);
        lock (_queuesLock)
            _queues.Add(queue);
        return queue;
    }

    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => new ScratchTokenDriver(buffer, direction, _device);

    /// <summary>The device works: everything that was committed is done.</summary>
    internal void Work()
    {
        foreach (ScratchQueue queue in Queues())
            queue.Work();
    }

    internal Errno Move(in Bio bio, object? backing) =>
        IsRemoved ? Errno.ENODEV
        : bio.Operation == BioOperation.Flush ? Errno.Ok
        : BioTransfer.Move(bio, backing, _device, _port, _store.Span(bio.Sector << 9, (int)bio.Size));

    internal void Closed(ScratchQueue queue)
    {
        lock (_queuesLock)
            _queues.Remove(queue);
    }

    private ScratchQueue[] Queues()
    {
        lock (_queuesLock)
            return [.. _queues];
    }

    // <example>
    // T11: what the device has is ended, not tried again; then the maps are killed, and nobody waits.
    public void Reset()
    {
        foreach (ScratchQueue queue in Queues())
            queue.Cancel(Errno.ECANCELED);
        _device.KillMaps();
    }

    // T11: gone first, so that nothing new comes; what the device has is ended; only then may somebody wait for the maps.
    public void Dispose()
    {
        _device.MarkRemoved();
        foreach (ScratchQueue queue in Queues())
            queue.Cancel(Errno.ENODEV);
        _device.Remove();
        _fabric.RemoveDevice(_device.AddressSpace);
        _store.Dispose();
    }
    // </example>
}
