using Autofac;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Hosting.Topology;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;
using DmaBufIo.Sync;
using DmaBufIo.Tokens;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;

namespace DmaBufIo.Hosting;

/// <summary>
/// The framework in one object: plugins, devices and buffers. Under the generic host it is a singleton service that starts and stops with
/// the application; elsewhere <see cref="Create"/> makes one. Any thread.
/// </summary>
public sealed class DmaBufIoHost : IDisposable
{
    // Long for closing, which ends requests instead of waiting for them; short for whoever has asked the application to end.
    private static readonly TimeSpan s_grace = TimeSpan.FromSeconds(5);

    private readonly ILogger _logger;
    private readonly IServiceProvider _services;
    private readonly OwnedStack _owned = new();
    private readonly Lock _starting = new();
    private readonly Lock _lock = new();
    private readonly List<OpenedDevice> _devices = [];
    private readonly List<ExportedBuffer> _buffers = [];
    private readonly WaitQueue _closed = new();
    private readonly CancellationTokenSource _ending = new();
    private readonly DeviceTree _tree;
    private PluginWatcher? _watcher;
    private IDmaFabric? _fabric;
    private bool _prepared;
    private bool _started;
    private bool _disposed;

    internal DmaBufIoHost(DmaBufIoOptions options, ILoggerFactory loggerFactory, IConfiguration configuration, IServiceProvider services)
    {
        Options = options;
        _services = services;
        _logger = loggerFactory.CreateLogger("DmaBufIo.Hosting");

        var builder = new ContainerBuilder();
        builder.RegisterInstance(loggerFactory).As<ILoggerFactory>().ExternallyOwned();
        builder.RegisterInstance(configuration).As<IConfiguration>().ExternallyOwned();
        builder.Register(_ => _fabric ?? throw NoFabric()).As<IDmaFabric>().ExternallyOwned();
        IContainer root = _owned.Push(builder.Build());
        Plugins = new PluginManager(new PluginActivator(root, options, configuration), () => Devices, () => Buffers, _ending.Token, _logger);
        _tree = new DeviceTree(Plugins, _logger);
    }

    /// <summary>The options, final.</summary>
    public DmaBufIoOptions Options { get; }

    /// <summary>What was loaded, and what was refused.</summary>
    public PluginManager Plugins { get; }

    /// <summary>Where device models get their address spaces from; null before the start, or when the application gives none.</summary>
    public IDmaFabric? Fabric => _fabric;

    /// <summary>How tokens behave, from <see cref="DmaBufIoOptions.Invalidation"/>: for opening files and registering buffers.</summary>
    public TokenOptions TokenOptions => TokenOptions.Default with { Design = Options.Invalidation };

    /// <summary>
    /// How rings are made, from <see cref="DmaBufIoOptions.Invalidation"/>, <see cref="DmaBufIoOptions.TransferPolicy"/> and <see cref="DmaBufIoOptions.RequestTimeout"/>:
    /// <c>new Ring(host.RingOptions with { Entries = 32 })</c>. Rings that are made so are counted (<see cref="Rings"/>), and waited for when the application stops.
    /// </summary>
    public RingOptions RingOptions => new()
    {
        Tokens = TokenOptions,
        TransferPolicy = Options.TransferPolicy,
        RequestTimeout = Options.RequestTimeout,
        TimeProvider = Options.TimeProvider,
        Group = Rings,
    };

    /// <summary>The rings that were made from <see cref="RingOptions"/>.</summary>
    public RingGroup Rings { get; } = new();

    /// <summary>The open devices, in the order of opening.</summary>
    public IReadOnlyList<OpenedDevice> Devices
    {
        get
        {
            lock (_lock)
                return [.. _devices];
        }
    }

    /// <summary>The buffers whose reference was not dropped yet, in the order of making.</summary>
    public IReadOnlyList<ExportedBuffer> Buffers
    {
        get
        {
            lock (_lock)
                return [.. _buffers];
        }
    }

    /// <summary>Makes a host without the generic host, and starts it.</summary>
    /// <param name="options">What the application chooses.</param>
    /// <param name="loggerFactory">For the host's messages and the plugins'; stays the caller's. Null for none.</param>
    /// <param name="configuration">
    /// Where plugins find their sections (<c>DmaBufIo:Plugins:NAME</c>); null for none. The options are not read from it.
    /// </param>
    /// <returns>The host; dispose it to close everything.</returns>
    /// <exception cref="DmaBufIoException">Wrong options (<c>EINVAL</c>), or the plugin folder is missing (<c>ENOENT</c>).</exception>
    public static DmaBufIoHost Create(DmaBufIoOptions options, ILoggerFactory? loggerFactory = null, IConfiguration? configuration = null)
    {
        ValidateOptionsResult valid = new OptionsValidator().Validate(name: null, options);
        if (valid.Failed)
            throw new DmaBufIoException(
                Errno.EINVAL,
                "Hosting",
                nameof(DmaBufIoOptions),
                string.Join("; ", valid.Failures),
                "Correct the options");

        ILoggerFactory loggers = loggerFactory ?? NullLoggerFactory.Instance;
        IConfiguration settings = configuration ?? new ConfigurationBuilder().Build();
        ServiceProvider services = new ServiceCollection()
            .AddSingleton(loggers)
            .AddSingleton(settings)
            .AddSingleton(options)
            .BuildServiceProvider();
        var host = new DmaBufIoHost(options, loggers, settings, services);
        host._owned.Push(services);
        try
        {
            host.Start();
            return host;
        }
        catch
        {
            host.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Makes the fabric and loads the plugins: the built-in ones, then those of the folder. Does nothing when it was started already.
    /// </summary>
    /// <exception cref="DmaBufIoException">
    /// The plugin folder is missing (<c>ENOENT</c>), or cannot be watched (<c>EMFILE</c>). Single plugins that are refused do not keep the host from starting.
    /// </exception>
    public void Start()
    {
        lock (_starting)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (_started)
                return;
            if (!_prepared)
                Prepare();
            if (Options.LoadPluginFolder)
                LoadFolder();
            _started = true;
            IReadOnlyList<PluginStatus> all = Plugins.All;
            _logger.Started(all.Count(static s => s.State == PluginState.Loaded), all.Count(static s => s.State == PluginState.Refused));
        }
    }

    /// <summary>Parses a device expression with the words of the plugins that are loaded now; opens nothing.</summary>
    /// <param name="expression">A topology expression or a plain path.</param>
    /// <returns>The tree.</returns>
    /// <exception cref="DmaBufIoException">Broken (<c>EINVAL</c>); the message points at the character.</exception>
    public DeviceExpression Parse(string expression)
    {
        ThrowIfNotStarted();
        return new ExpressionParser(Plugins.DeviceWords, Plugins.ExporterWords).ParseDevice(expression);
    }

    /// <summary>Opens a device and everything it stands on.</summary>
    /// <param name="expression">
    /// A topology expression or a plain path, which means <c>nvme:PATH</c>; the grammar stands at <see cref="ExpressionParser"/>.
    /// </param>
    /// <param name="readOnly">True when the device will only be read.</param>
    /// <returns>The device; the caller disposes it, or the host does when it stops.</returns>
    /// <exception cref="DmaBufIoException">
    /// A broken expression or an unknown word (<c>EINVAL</c>), no driver (<c>ENODEV</c>), or what the plugins say. Nothing stays open then.
    /// </exception>
    public OpenedDevice Open(string expression, bool readOnly = false) => Open(Parse(expression), readOnly);

    /// <summary>Opens a device and everything it stands on.</summary>
    /// <param name="expression">From <see cref="Parse"/>, perhaps with options added.</param>
    /// <param name="readOnly">True when the device will only be read.</param>
    /// <returns>The device; the caller disposes it, or the host does when it stops.</returns>
    /// <exception cref="DmaBufIoException">
    /// An unknown word (<c>EINVAL</c>), no driver (<c>ENODEV</c>), or what the plugins say. Nothing stays open then.
    /// </exception>
    public OpenedDevice Open(DeviceExpression expression, bool readOnly = false)
    {
        ThrowIfNotStarted();
        var owned = new OwnedStack();
        var device = new OpenedDevice(_tree.Open(expression, readOnly, owned), owned, Closed);
        Add(_devices, device);
        _logger.DeviceOpened(device.Name, ExpressionText.Format(expression), device.Root.DriverName);
        return device;
    }

    /// <summary>How large each member of a set, or each device under a file, must be: for whoever makes them before the expression is opened.</summary>
    /// <param name="expression">From <see cref="Parse"/>.</param>
    /// <param name="capacity">Bytes that the device or file is to hold.</param>
    /// <returns>Bytes of each member, a multiple of 4096.</returns>
    /// <exception cref="DmaBufIoException">An unknown word, or a broken expression (<c>EINVAL</c>).</exception>
    public long MemberCapacity(DeviceExpression expression, long capacity)
    {
        ThrowIfNotStarted();
        if (Plugins.Find(p => p.BlockDevice(expression.Word)) is var (devices, deviceUse))
        {
            using (deviceUse)
                return devices.MemberCapacity(expression, capacity);
        }

        if (Plugins.Find(p => p.File(expression.Word)) is var (files, fileUse))
        {
            using (fileUse)
                return files.MemberCapacity(expression, capacity);
        }

        throw expression.Broken(expression.Position, $"'{expression.Word}' has no members", "Give a set of devices");
    }

    /// <summary>What the plugins have written about themselves to a device: whose it is. Opens it for reading, and closes it again.</summary>
    /// <param name="expression">A device, from <see cref="Parse"/>.</param>
    /// <returns>One mark for each kind of device or file that stands on it; empty for a device that belongs to nobody.</returns>
    /// <exception cref="DmaBufIoException">It cannot be opened or read.</exception>
    public IReadOnlyList<DeviceMark> MarksOn(DeviceExpression expression)
    {
        using OpenedDevice opened = Open(expression, readOnly: true);
        Block.BlockDevice device = opened.BlockDevice;
        var marks = new List<DeviceMark?>();
        foreach (string word in Plugins.DeviceWords)
        {
            if (Plugins.Find(p => p.BlockDevice(word)) is var (devices, deviceUse))
            {
                using (deviceUse)
                    marks.Add(devices.Look(device));
            }
            else if (Plugins.Find(p => p.File(word)) is var (files, fileUse))
            {
                using (fileUse)
                    marks.Add(files.Look(device));
            }
        }

        return [.. marks.OfType<DeviceMark>()];
    }

    /// <summary>Makes a buffer.</summary>
    /// <param name="exporterExpression">
    /// For example "udmabuf" or "gpu:vram=64M"; the grammar stands at <see cref="ExpressionParser"/>.
    /// </param>
    /// <param name="name">A name for the buffer, for messages.</param>
    /// <param name="size">Bytes, a positive multiple of the page size.</param>
    /// <returns>The buffer; the caller disposes it, or the host does when it stops.</returns>
    /// <exception cref="DmaBufIoException">
    /// A broken expression, an unknown exporter, a wrong size (<c>EINVAL</c>), or what the exporter says.
    /// </exception>
    public ExportedBuffer CreateBuffer(string exporterExpression, string name, long size)
    {
        ThrowIfNotStarted();
        if (size <= 0 || size % Memory.MemoryRegion.PageSize != 0)
            throw new DmaBufIoException(
                Errno.EINVAL,
                "Hosting",
                $"buffer {name}",
                $"the size is not a positive multiple of the page size ({Memory.MemoryRegion.PageSize})",
                "Round it up to whole pages",
                range: $"0+{size}");
        return CreateBuffer(exporterExpression, name, (factory, parsed) => factory.Create(parsed, name, size));
    }

    /// <summary>Makes a buffer of memory that the application has already: ranges of sealed memory files, in order.</summary>
    /// <param name="exporterExpression">An exporter that takes memory files (<see cref="IMemoryFileExporter"/>), for example "udmabuf"; without options.</param>
    /// <param name="name">A name for the buffer, for messages.</param>
    /// <param name="ranges">See <see cref="IMemoryFileExporter.Export"/>.</param>
    /// <returns>The buffer; the caller disposes it, or the host does when it stops.</returns>
    /// <exception cref="DmaBufIoException">
    /// A broken expression, an unknown exporter, a wrong range (<c>EINVAL</c>), or an exporter that takes no memory files (<c>EOPNOTSUPP</c>).
    /// </exception>
    public ExportedBuffer CreateBuffer(string exporterExpression, string name, IReadOnlyList<MemoryFileRange> ranges)
    {
        ThrowIfNotStarted();
        return CreateBuffer(exporterExpression, name, (factory, parsed) =>
        {
            parsed.AllowOnly();
            parsed.AllowNoText();
            return factory is IMemoryFileExporter exporter
                ? exporter.Export(name, ranges)
                : throw new DmaBufIoException(Errno.EOPNOTSUPP, "Hosting", $"buffer {name}", $"exporter '{parsed.Word}' makes no buffers of memory files", "Use an exporter that does, for example udmabuf");
        });
    }

    private ExportedBuffer CreateBuffer(string exporterExpression, string name, Func<IExporterFactory, DeviceExpression, DmaBufs.DmaBuf> make)
    {
        DeviceExpression parsed = new ExpressionParser(Plugins.DeviceWords, Plugins.ExporterWords).ParseExporter(exporterExpression);
        if (Plugins.Find(p => p.Exporter(parsed.Word)) is not var (factory, use))
            throw parsed.Broken(
                parsed.Position,
                $"'{parsed.Word}' is not a known exporter",
                ExpressionParser.Known("exporters", Plugins.ExporterWords));

        // The use spans the plugin's code; from then on the buffer itself is what keeps the plugin.
        using (use)
        {
            DmaBufs.DmaBuf made = make(factory, parsed);
            Plugins.AddBuffer(use.Plugin, made);
            var buffer = new ExportedBuffer(parsed, use.Plugin.Status.Name, made, factory, Dropped);
            Add(_buffers, buffer);
            _logger.BufferCreated(name, made.Size, exporterExpression);
            return buffer;
        }
    }

    /// <summary>
    /// Closes every open device, the newest first, then drops the host's references to buffers. The plugins stay. May sleep.
    /// </summary>
    /// <exception cref="AggregateException">
    /// Several failed; a single failure is thrown as it is. Everything was closed either way.
    /// </exception>
    public void CloseAll()
    {
        using var owned = new OwnedStack();
        foreach (ExportedBuffer buffer in Buffers)
            owned.Push(buffer);
        foreach (OpenedDevice device in Devices)
            owned.Push(device);
    }

    /// <summary>
    /// Closes everything: devices, buffers, plugins, and the fabric where the host made it. Idempotent. Where somebody else is closing a device and does not come to an end, it is left after some
    /// seconds with the plugins as they are: nothing is unloaded under a device.
    /// </summary>
    /// <exception cref="AggregateException">As <see cref="CloseAll"/>.</exception>
    public void Dispose()
    {
        lock (_starting)
        {
            lock (_lock)
            {
                if (_disposed)
                    return;
                _disposed = true;
            }
        }

        _ending.Cancel(); // a drain that waits would keep the host
        using var all = new OwnedStack();
        all.Push(_ending);
        all.Push(new Ending(() => _logger.Stopped()));
        all.Push(new Ending(EndPlugins));
        all.Push(new Ending(CloseAll));
        if (_watcher is { } watcher)
            all.Push(watcher);
    }

    /// <summary>
    /// The application has ended its part: lets requests in flight end by themselves, as long as there is time, then closes devices and buffers.
    /// </summary>
    /// <param name="cancellationToken">The time to stop is up: what is in flight is ended by closing its device.</param>
    /// <exception cref="OperationCanceledException">A device has not closed in the time, nor in some seconds more.</exception>
    internal async Task StopAsync(CancellationToken cancellationToken)
    {
        _watcher?.Dispose();
        await Task.Run(() => AwaitRequests(cancellationToken), CancellationToken.None).ConfigureAwait(false);
        var closing = Task.Run(CloseAll, CancellationToken.None);
        try
        {
            await closing.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!closing.IsCompleted)
        {
            // Closing ends requests and waits for nothing else: it has its own time, or requests that were given all of it would leave none.
            await Task.WhenAny(closing, Task.Delay(s_grace, Options.TimeProvider, CancellationToken.None)).ConfigureAwait(false);
            if (!closing.IsCompleted)
            {
                _logger.StillClosing(NamesOfDevices());
                throw;
            }

            await closing.ConfigureAwait(false);
        }
    }

    private static DmaBufIoException NoFabric() => new(
        Errno.ENODEV,
        "Hosting",
        nameof(IDmaFabric),
        "the plugin needs a DMA fabric, and this host has none",
        $"Give the host one by {nameof(DmaBufIoOptions)}.{nameof(DmaBufIoOptions.UseFabric)}, for example the modelled IOMMU of Models");

    private void AwaitRequests(CancellationToken limit)
    {
        int requests = Rings.InFlight;
        if (requests != 0)
            _logger.StoppingWaits(requests, Rings.Rings.Count);
        if (Rings.WaitIdle(limit) != Errno.Ok)
            _logger.RequestsLeft(Rings.InFlight, string.Join(", ", Rings.Rings.Where(static r => r.InFlight > 0).Select(static r => r.Name)));
    }

    private void LoadFolder()
    {
        string folder = PluginManager.Existing(Options.PluginFolder);
        if (!Options.HotReload.EnableHotReload)
        {
            Plugins.LoadAll(folder);
            return;
        }

        // Watched from before it is read: what changes meanwhile is looked at again.
        using var watcher = new Handover<PluginWatcher>(new PluginWatcher(folder, Options.HotReload, Options.TimeProvider, Plugins, _logger));
        Plugins.LoadAll(folder);
        _watcher = watcher.Value;
        watcher.Release();
        _watcher.Begin();
    }

    private void EndPlugins()
    {
        // The stop may have left a device to itself that does not close.
        using var limit = new CancellationTokenSource(s_grace, Options.TimeProvider);
        if (_closed.Wait(() => Devices.Count == 0, new WaitReason("devices that are being closed", NamesOfDevices), limit.Token) != Errno.Ok)
        {
            _logger.StillClosing(NamesOfDevices());
            return;
        }

        using var rest = new OwnedStack();
        if (Options.OwnsFabric && _fabric is IDisposable fabric)
            rest.Push(fabric);
        rest.Push(_owned);
        rest.Push(new Ending(Plugins.UnloadAll));
    }

    private string NamesOfDevices() => string.Join(", ", Devices.Select(static d => d.Name));

    // Done once, also when the plugin folder turns out to be missing and the application starts again with another.
    private void Prepare()
    {
        _prepared = true;
        _owned.Push(new DiagnosticsForwarder(_logger));
        _owned.Push(new HostMetrics(this, _services));
        _fabric = Options.Fabric?.Invoke(_services, Options);
        foreach ((string name, Func<IDmaBufIoPlugin> create) in Options.BuiltIns)
            Plugins.AddBuiltIn(name, create);
    }

    private void Add<T>(List<T> opened, T thing)
        where T : IDisposable
    {
        lock (_lock)
        {
            if (!_disposed)
            {
                opened.Add(thing);
                return;
            }
        }

        thing.Dispose();
        throw new ObjectDisposedException(nameof(DmaBufIoHost), "The host was disposed while this was being opened.");
    }

    private void Closed(OpenedDevice device)
    {
        lock (_lock)
            _devices.Remove(device);
        _closed.WakeAll();
        _logger.DeviceClosed(device.Name);
        _watcher?.TryAgain();
    }

    private void Dropped(ExportedBuffer buffer)
    {
        lock (_lock)
            _buffers.Remove(buffer);
        _logger.BufferDropped(buffer.Name);
        _watcher?.TryAgain();
    }

    private void ThrowIfNotStarted()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (!_started)
            throw new InvalidOperationException($"The host is not started: call {nameof(Start)}, or wait until the generic host has started.");
    }

    private sealed class Ending(Action action) : IDisposable
    {
        public void Dispose() => action();
    }
}
