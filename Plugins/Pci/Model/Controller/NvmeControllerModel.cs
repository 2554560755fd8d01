using System.Security.Cryptography;
using System.Text;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Pci.Model.Diagnostics;
using DmaBufIo.Pci.Model.Protocol;
using DmaBufIo.Pci.Model.Stores;

namespace DmaBufIo.Pci.Model;

/// <summary>
/// An NVMe 1.4 controller without hardware: a PCI function with registers, doorbells, queues, and one namespace in a file or in
/// memory. It reaches memory only by DMA through the port that the fabric gave it, one translation per run of addresses.
/// </summary>
/// <remarks>
/// Registers may be used from any thread. Commands execute one after the other, on the controller's thread or inline in
/// <see cref="Advance"/>; interrupt handlers run there too, with no lock of the controller held.
/// </remarks>
public sealed partial class NvmeControllerModel : PciFunction
{
    private const string Layer = "Pci.Model";
    private const int LogCapacity = 1000;
    private readonly NvmeModelOptions _options;
    private readonly IDmaFabric _fabric;
    private readonly DmaAddressSpace _space;
    private readonly DmaPort _port;
    private readonly INamespaceStore _store;
    private readonly NamespaceFacts _namespace;
    private readonly BoundedLog<NvmeViolation> _violations = new(LogCapacity);
    private readonly BoundedLog<NvmeStoreError> _storeErrors = new(LogCapacity);
    private int _lastStoreErrno;
    private volatile bool _gone;
    private bool _disposed;

    /// <summary>Creates the controller in its power-on state, opens its namespace and joins the fabric.</summary>
    /// <param name="options">What it is made of.</param>
    /// <param name="fabric">Where it gets its path to memory from; it leaves the fabric when it is disposed.</param>
    /// <exception cref="DmaBufIoException">An option is out of range (<c>EINVAL</c>), or the file is missing (<c>ENOENT</c>), a
    /// directory (<c>EISDIR</c>) or not accessible (<c>EACCES</c>).</exception>
    public NvmeControllerModel(NvmeModelOptions options, IDmaFabric fabric)
        : this(options, fabric, OpenStore(options))
    {
    }

    internal NvmeControllerModel(NvmeModelOptions options, IDmaFabric fabric, INamespaceStore store)
    {
        _options = options;
        _fabric = fabric;
        try
        {
            long blocks = RoundUp(options, options.SizeBytes ?? store.Length) / options.LbaSize;
            _namespace = new NamespaceFacts((ulong)blocks, options.LbaSize == 512 ? 9 : 12, options.ReadOnly, IdentityOf(options));
            (_space, _port) = fabric.AddDevice(options.Name);
        }
        catch
        {
            store.Dispose();
            throw;
        }

        _cache = store as WriteCacheStore;
        _store = store;
        _storeMover = new StoreMover(store);
        _walker = new PrpWalker((address, destination) => DmaRead(address, destination.Span));
        _capabilities = BuildCapabilities(options);
        _barLength = BarLengthFor(options);
        _submissionQueues = new SubmissionQueue?[options.MaxQueues + 1];
        _completionQueues = new CompletionQueue?[options.MaxQueues + 1];
        _active = new SubmissionQueue[options.MaxQueues + 1];
        _doorbells = new uint[(options.MaxQueues + 1) * DoorbellStride];
        _handlers = new Action?[options.MaxQueues + 1];
        _pendingVectors = new long[(options.MaxQueues + 64) / 64];
        _vectorConfig = new uint[options.MaxQueues + 1];
        ResetFeatures();
        if (options.OwnThread)
        {
            _thread = new Thread(RunThread) { Name = options.Name, IsBackground = true };
            _thread.Start();
        }
    }

    /// <inheritdoc/>
    public override string Name => _options.Name;

    /// <inheritdoc/>
    public override Devices.DeviceLocation? Location => _options.Location;

    /// <summary>Class 01-08-02: an NVM Express I/O controller.</summary>
    public override PciIdentity Identity => new(IdentifyData.Vendor, IdentifyData.Device, 0x010802);

    /// <inheritdoc/>
    public override DmaAddressSpace AddressSpace => _space;

    /// <summary>One vector for the admin queue and one for each I/O queue pair.</summary>
    public override int InterruptVectors => _handlers.Length;

    /// <summary>
    /// While true the controller fetches no command, as one that hangs: registers and shutdown still work, commands already
    /// announced wait. For tests of a driver's timeout and reset paths. Any thread.
    /// </summary>
    public bool Stall
    {
        get => _stall;
        set
        {
            _stall = value;
            WakeIfSleeping();
        }
    }

    /// <summary>
    /// The rules the host broke so far, oldest first: a copy, of the first 1,000. Any thread. A host that keeps the rules leaves it
    /// empty.
    /// </summary>
    public IReadOnlyList<NvmeViolation> Violations => _violations.Snapshot();

    /// <summary>Number of breaches, also of those that <see cref="Violations"/> had no room for.</summary>
    public long ViolationCount => _violations.Total;

    /// <summary>Failures of the file behind the namespace, oldest first: a copy, of the first 1,000. Any thread.</summary>
    public IReadOnlyList<NvmeStoreError> StoreErrors => _storeErrors.Snapshot();

    /// <inheritdoc/>
    public override IReadOnlyList<string> Problems =>
    [
        .. _storeErrors.Snapshot().Select(e => $"{Name}: the storage answered {e.Errno} for bytes {e.Position}+{e.Length}"),
        .. _violations.Snapshot().Select(v => $"{Name}: {v.Problem} (rule {v.Rule}, opcode 0x{v.Opcode:x2}, queue {v.QueueId}, command {v.CommandId}, address 0x{v.Address:x})"),
    ];

    /// <summary>Number of store failures, also of those that <see cref="StoreErrors"/> had no room for.</summary>
    public long StoreErrorCount => _storeErrors.Total;

    /// <summary>What the operating system answered at the latest store failure; <c>Ok</c> when there was none.</summary>
    public Errno LastStoreErrno => (Errno)Volatile.Read(ref _lastStoreErrno);

    /// <inheritdoc/>
    public override long BarLength(int bar) => bar == 0 ? _barLength : 0;

    /// <inheritdoc/>
    /// <exception cref="ArgumentOutOfRangeException">No such vector.</exception>
    public override void SetInterruptHandler(int vector, Action? handler)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(vector);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(vector, _handlers.Length);
        Volatile.Write(ref _handlers[vector], handler);
    }

    /// <summary>
    /// Surprise removal: from now on every register reads all ones, writes are ignored, and nothing is executed.
    /// When it has returned no DMA is under way and none will start. Any thread, interrupt handlers included. Idempotent; there is
    /// no way back.
    /// </summary>
    public void Kill()
    {
        // The flag stops new DMA at once; waiting for the lock waits for the command that is being executed.
        _gone = true;
        EnterControl();
        _engine.Exit();
    }

    /// <summary>
    /// Stops the controller, flushes and closes its namespace and leaves the fabric. The flush's failure is found in
    /// <see cref="StoreErrors"/>.
    /// Not to be called from an interrupt handler. Idempotent.
    /// </summary>
    /// <exception cref="DmaBufIoException">Called on the controller's own thread (<c>EDEADLK</c>).</exception>
    public override void Dispose()
    {
        if (_thread is not null && _thread == Thread.CurrentThread)
        {
            throw new DmaBufIoException(
                Errno.EDEADLK, Layer, Name, "an interrupt handler disposes the controller that runs it", "Dispose it from another thread");
        }

        EnterControl();
        try
        {
            if (_disposed)
                return;
            _disposed = true;
            _gone = true;
            _stopping = true;
        }
        finally
        {
            _engine.Exit();
        }

        _wake.Set();
        _thread?.Join();
        if (!_options.ReadOnly)
            FlushStore(-1, -1);
        _store.Dispose();
        _fabric.RemoveDevice(_space);
        _wake.Dispose();
    }

    // Stable over restarts, different for different files: hosts recognise a namespace by it.
    private static Guid IdentityOf(NvmeModelOptions options)
    {
        string text = options.Path is null ? "memory:" + options.Name : "file:" + System.IO.Path.GetFullPath(options.Path);
        Span<byte> hash = stackalloc byte[32];
        SHA256.HashData(Encoding.UTF8.GetBytes(text), hash);
        hash[6] = (byte)((hash[6] & 0x0F) | 0x80);
        hash[8] = (byte)((hash[8] & 0x3F) | 0x80);
        return new Guid(hash[..16], bigEndian: true);
    }

    private static INamespaceStore OpenStore(NvmeModelOptions options)
    {
        options.Validate();
        INamespaceStore store = options.Path is not null ? FileNamespaceStore.Open(options)
            : options.Memory is { } memory ? memory.Open()
            : new MemoryNamespaceStore(RoundUp(options, options.SizeBytes!.Value));
        return options.WriteCacheSize == 0 ? store : new WriteCacheStore(store, options.LbaSize, options.WriteCacheSize);
    }

    private static long RoundUp(NvmeModelOptions options, long bytes)
    {
        if (bytes > long.MaxValue - options.LbaSize)
        {
            throw new DmaBufIoException(
                Errno.EOVERFLOW, Layer, options.Name, "the namespace is too large", "Ask for less", range: $"0+{bytes}");
        }

        return Math.Max(1, (bytes + options.LbaSize - 1) / options.LbaSize) * options.LbaSize;
    }

    private void RecordStoreError(Errno errno, byte opcode, int queue, int command, long position, long length)
    {
        Volatile.Write(ref _lastStoreErrno, (int)errno);
        _storeErrors.Add(new NvmeStoreError(errno, opcode, queue, command, position, length));
        _mediaErrors++;
    }
}
