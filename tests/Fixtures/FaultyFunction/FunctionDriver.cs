using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Pci;
using DmaBufIo.Plugins;
using DmaBufIo.Tokens;

namespace DmaBufIo.Fixtures.FaultyFunction;

/// <summary>The driver of the small function.</summary>
internal sealed class FunctionDriver(Fault fault) : IPciDriver
{
    public string Name => "faulty-function";

    public bool Matches(in PciIdentity identity) => identity is { Vendor: 0xDB10, ClassCode: 0x010000 };

    public IPciBinding Probe(PciFunction function, string name)
    {
        function.Reset();
        function.Write32(0, SmallFunction.Control, 1);
        return new FunctionDisk(function, name, fault);
    }
}

/// <summary>The disk, and the driver bound to it. Its queues take turns: the function does one command at a time.</summary>
internal sealed class FunctionDisk : BlockDevice, IPciBinding
{
    private readonly PciFunction _function;
    private readonly DmaDevice _device;
    private readonly Lock _lock = new();
    private readonly List<FunctionQueue> _queues = [];
    private FunctionQueue? _user;
    private bool _disposed;

    internal FunctionDisk(PciFunction function, string name, Fault fault)
    {
        _function = function;
        Fault = fault;
        _device = new DmaDevice(name, function.AddressSpace) { Location = function.Location };
        function.SetInterruptHandler(1, WakeAll);
    }

    public override string Name => _device.Name;

    public override long Capacity => 4 << 20;

    public override QueueLimits Limits => new(512) { MaxBytes = 1 << 20 };

    public override bool IsRemoved => _device.IsRemoved;

    public override string Description => "a small disk";

    public IReadOnlyList<BlockDevice> BlockDevices => [this];

    internal Fault Fault { get; }

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth)
    {
        _device.ThrowIfRemoved("FaultyFunction");
        var queue = new FunctionQueue(this, _function, context, bios, depth);
        lock (_lock)
            _queues.Add(queue);
        return queue;
    }

    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => new RangeTokenDriver(buffer, direction, _device);

    /// <summary>Ends what is in flight, kills the maps, and goes on (T11, N8).</summary>
    public void Reset()
    {
        FunctionQueue[] queues = Queues();
        Cancel(queues, Errno.ECANCELED);
        _device.KillMaps();
        Reap(queues);
        _function.Write32(0, SmallFunction.Control, 1);
        foreach (FunctionQueue queue in queues)
            queue.Context.Visit(queue.Thaw);
        WakeAll();
    }

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, true))
            return;
        _device.MarkRemoved();
        FunctionQueue[] queues = Queues();
        Cancel(queues, Errno.ENODEV);
        Reap(queues);
        _device.Remove();
        _function.Dispose();
    }

    /// <summary>A queue wants to use the function.</summary>
    internal bool TryTake(FunctionQueue queue) => Interlocked.CompareExchange(ref _user, queue, null) is null;

    /// <summary>It needs it no more: another one may.</summary>
    internal void Release(FunctionQueue queue)
    {
        if (ReferenceEquals(Interlocked.CompareExchange(ref _user, null, queue), queue))
            WakeAll();
    }

    internal void Forget(FunctionQueue queue)
    {
        Release(queue);
        lock (_lock)
            _queues.Remove(queue);
    }

    private void Cancel(FunctionQueue[] queues, Errno status)
    {
        foreach (FunctionQueue queue in queues)
            queue.Context.Visit(queue.Freeze);
        _function.Reset();
        foreach (FunctionQueue queue in queues)
            queue.Context.Visit(() => queue.Cancel(status));
    }

    // Maps' references are dropped in the place of owners that may be idle (T14).
    private static void Reap(FunctionQueue[] queues)
    {
        foreach (FunctionQueue queue in queues)
            queue.Context.ReapAsVisitor();
    }

    private FunctionQueue[] Queues()
    {
        lock (_lock)
            return [.. _queues];
    }

    private void WakeAll()
    {
        foreach (FunctionQueue queue in Queues())
            queue.Wake();
    }
}
