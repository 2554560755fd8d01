using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Models.Puppets;

/// <summary>
/// An importer on strings: a block device over memory that takes bios and moves their data only when told to, so that a test can put anything between
/// a request's steps. Its DMA goes through a device port like any device's: stale accesses are seen.
/// </summary>
/// <remarks>Thread-safe: <see cref="Finish"/> may be called from any thread; completions are handed over in <see cref="BlockQueue.Poll"/>.</remarks>
public sealed class PuppetBlockDevice : BlockDevice, IDisposable
{
    private readonly byte[] _store;
    private readonly Lock _lock = new();
    private readonly List<PuppetQueue> _queues = [];

    /// <summary>Creates the device.</summary>
    /// <param name="name">A name for messages.</param>
    /// <param name="space">The host's end of its DMA address space.</param>
    /// <param name="port">The device's end.</param>
    /// <param name="capacity">Bytes, a multiple of the block size.</param>
    /// <param name="limits">What it accepts in one bio.</param>
    /// <param name="location">Where it hangs in the PCI tree; null when that is not known.</param>
    public PuppetBlockDevice(string name, DmaAddressSpace space, DmaPort port, int capacity, QueueLimits limits, DeviceLocation? location = null)
    {
        Name = name;
        Port = port;
        Device = new DmaDevice(name, space) { Location = location };
        Limits = limits;
        _store = new byte[capacity];
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override long Capacity => _store.Length;

    /// <inheritdoc/>
    public override QueueLimits Limits { get; }

    /// <inheritdoc/>
    public override bool IsRemoved => Device.IsRemoved;

    /// <inheritdoc/>
    public override bool IsReadOnly => WriteProtected;

    /// <inheritdoc/>
    public override string Description => "puppet block device over memory";

    /// <summary>The identity that attaches to buffers.</summary>
    public DmaDevice Device { get; }

    /// <summary>The contents.</summary>
    public Span<byte> Store => _store;

    /// <summary>True: bios stay until <see cref="Finish"/>. False (at first): each is finished when it is committed.</summary>
    public bool Hold { get; set; }

    /// <summary>True: writes are refused.</summary>
    public bool WriteProtected { get; set; }

    /// <summary>Bios a queue takes before it has no room.</summary>
    public int QueueDepth { get; set; } = int.MaxValue;

    /// <summary>The status with which the next bios end instead of moving data, or Ok.</summary>
    public Errno FailWith { get; set; }

    /// <summary>What <see cref="TokenDriver.Setup"/> throws, or null.</summary>
    public Func<Exception>? FailSetup { get; set; }

    /// <summary>What <see cref="TokenDriver.Map"/> throws, or null.</summary>
    public Func<Exception>? FailMap { get; set; }

    /// <summary>Called inside <see cref="TokenDriver.Map"/>, with the reservation lock held, before the mapping is made.</summary>
    public Action? InMap { get; set; }

    /// <summary>Called inside <see cref="TokenDriver.Unmap"/>, with the reservation lock held.</summary>
    public Action? InUnmap { get; set; }

    /// <summary>False: the device has no token operation (T1).</summary>
    public bool TakesTokens { get; set; } = true;

    /// <summary>Called when a bio is handed to <see cref="BlockQueue.Submit"/>, before it is taken.</summary>
    public Action<Bio>? OnSubmit { get; set; }

    /// <summary>Called when a queue is polled, by whom ever, with the number of its bios that are held.</summary>
    public Action<int>? OnPoll { get; set; }

    /// <summary>Queues open.</summary>
    public int OpenQueues
    {
        get
        {
            lock (_lock)
                return _queues.Count;
        }
    }

    /// <summary>Tokens set up and not released.</summary>
    public int LiveTokens => Volatile.Read(ref _liveTokens);

    /// <summary>Maps made and not unmapped.</summary>
    public int LiveMaps => Volatile.Read(ref _liveMaps);

    /// <summary>Called when the device was disposed: for whoever owns its address space.</summary>
    public Action? Ended { get; init; }

    /// <summary>Bios committed and not finished.</summary>
    public int Held
    {
        get
        {
            lock (_lock)
                return _queues.Sum(static q => q.HeldCount);
        }
    }

    internal DmaPort Port { get; }

    private int _liveTokens;
    private int _liveMaps;

    /// <summary>The device does the work of held bios, oldest first: moves the data and completes them.</summary>
    /// <param name="count">At most this many.</param>
    /// <returns>How many.</returns>
    public int Finish(int count = int.MaxValue)
    {
        int finished = 0;
        PuppetQueue[] queues;
        lock (_lock)
            queues = [.. _queues];
        foreach (PuppetQueue queue in queues)
            finished += queue.FinishHeld(count - finished);
        return finished;
    }

    /// <summary>Every held bio ends with a status and moves nothing, as a reset does (T11, N8).</summary>
    /// <param name="status">The status.</param>
    public void CancelHeld(Errno status)
    {
        PuppetQueue[] queues;
        lock (_lock)
            queues = [.. _queues];
        foreach (PuppetQueue queue in queues)
            queue.CancelHeld(status);
    }

    /// <inheritdoc/>
    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth)
    {
        Device.ThrowIfRemoved("Models");
        var queue = new PuppetQueue(this, bios);
        lock (_lock)
            _queues.Add(queue);
        return queue;
    }

    /// <inheritdoc/>
    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => TakesTokens ? new PuppetTokenDriver(this, buffer, direction) : null;

    /// <summary>Removes the device: held bios end with <c>ENODEV</c>, then every map of it goes (T11). Idempotent.</summary>
    public void Dispose()
    {
        if (IsRemoved)
            return;
        Device.MarkRemoved();
        CancelHeld(Errno.ENODEV);
        Device.Remove();
        Ended?.Invoke();
    }

    internal Errno MoveData(in PuppetCommand command)
    {
        if (FailWith != Errno.Ok)
            return FailWith;
        if (IsRemoved)
            return Errno.ENODEV;
        if (command.Bio.Operation == BioOperation.Flush)
            return Errno.Ok;
        Span<byte> data = _store.AsSpan((int)(command.Bio.Sector << 9), (int)command.Bio.Size);
        return BioTransfer.Move(command.Bio, command.Backing, Device, Port, data);
    }

    internal void CountToken(int change) => Interlocked.Add(ref _liveTokens, change);

    internal void CountMap(int change) => Interlocked.Add(ref _liveMaps, change);

    internal void Close(PuppetQueue queue)
    {
        lock (_lock)
            _queues.Remove(queue);
    }
}
