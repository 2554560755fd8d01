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
public sealed partial class DmaBufIoHost : IDisposable
{
    private readonly ILogger _logger;
    private readonly IServiceProvider _services;
    private readonly OwnedStack _owned = new();
    private readonly Lock _starting = new();
    private readonly Lock _lock = new();
    private readonly List<OpenedDevice> _devices = [];
    private readonly List<ExportedBuffer> _buffers = [];
    private readonly WaitQueue _progress = new();
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
        Plugins = new PluginManager(new PluginActivator(root, options, configuration), () => Devices, () => Buffers, _progress, TryAgain, _ending.Token, _logger);
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
    /// The plugin folder is missing (<c>ENOENT</c>), or cannot be watched (<c>EMFILE</c>; <c>EACCES</c> when it may not be read). Single plugins that are refused do not keep the host from starting.
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

    private static DmaBufIoException NoFabric() => new(
        Errno.ENODEV,
        "Hosting",
        nameof(IDmaFabric),
        "the plugin needs a DMA fabric, and this host has none",
        $"Give the host one by {nameof(DmaBufIoOptions)}.{nameof(DmaBufIoOptions.UseFabric)}, for example the modelled IOMMU of Models");

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

    /// <summary>Something was given up that may have kept a plugin. Called by whoever gives it up, with whatever locks that thread holds: takes none but the clock's.</summary>
    private void TryAgain() => _watcher?.TryAgain();

    private void ThrowIfNotStarted()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (!_started)
            throw new InvalidOperationException($"The host is not started: call {nameof(Start)}, or wait until the generic host has started.");
    }
}
