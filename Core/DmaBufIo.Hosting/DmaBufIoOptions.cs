using DmaBufIo.Dma;
using DmaBufIo.Hosting.Loading;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Hosting;

/// <summary>
/// What a host application chooses. Under the generic host the configuration section <c>DmaBufIo</c> is applied first, with the property
/// names as keys, then the application's code. Validated at start; later changes have no effect.
/// </summary>
public sealed class DmaBufIoOptions
{
    private readonly List<(string Name, Func<IDmaBufIoPlugin> Create)> _builtIns = [];

    /// <summary>The configuration section: "DmaBufIo". A plugin's own options stand in <c>DmaBufIo:Plugins:NAME</c>.</summary>
    public static string SectionName => "DmaBufIo";

    /// <summary>
    /// The folder of the plugins' folders, "plugins" beside the application by default; relative paths start at the current folder. It must
    /// exist at start.
    /// </summary>
    public string PluginFolder { get; set; } = Path.Combine(AppContext.BaseDirectory, "plugins");

    /// <summary>False for a host that has built-in plugins only and no folder.</summary>
    public bool LoadPluginFolder { get; set; } = true;

    /// <summary>
    /// What stands between devices and memory. For the application's fabric to obey, see
    /// <see cref="UseFabric(Func{IServiceProvider, DmaBufIoOptions, IDmaFabric})"/>.
    /// </summary>
    public IommuPolicy Iommu { get; set; }

    /// <summary>How an invalidation makes sure that nobody uses the old addresses; draining by default.</summary>
    public InvalidationDesign Invalidation { get; set; }

    /// <summary>What happens to requests that a device cannot do in the buffer's own memory: refused, or copied by the CPU and said so; refused by default.</summary>
    public TransferPolicy TransferPolicy { get; set; }

    /// <summary>How long awaited requests of the host's rings may take to be issued; for ever by default. What that means stands at <see cref="RingOptions.RequestTimeout"/>.</summary>
    public TimeSpan RequestTimeout { get; set; } = Timeout.InfiniteTimeSpan;

    /// <summary>Reloading plugins while the application runs; off by default.</summary>
    public HotReloadOptions HotReload { get; } = new();

    /// <summary>The clock by which the host and its rings wait; the system's by default.</summary>
    public TimeProvider TimeProvider { get; set; } = TimeProvider.System;

    /// <summary>True to load plugins for good: calls into them are about 0.7 ns cheaper, and unloading gives no memory back.</summary>
    public bool NonCollectiblePlugins { get; set; }

    /// <summary>Simple names of further assemblies that plugins take from the host, for contracts of the application's own.</summary>
    public IList<string> SharedAssemblies { get; } = new List<string>();

    /// <summary>Makes the loader of a plugin's assemblies; <see cref="PluginLoader"/> by default.</summary>
    public Func<PluginConfig, IPluginAssemblyLoader> AssemblyLoader { get; set; } = PluginLoader.Create;

    internal IReadOnlyList<(string Name, Func<IDmaBufIoPlugin> Create)> BuiltIns => _builtIns;

    internal Func<IServiceProvider, DmaBufIoOptions, IDmaFabric>? Fabric { get; private set; }

    internal bool OwnsFabric { get; private set; }

    /// <summary>
    /// Adds a plugin that the application brings itself. It goes the way of the others, without a load context of its own, before them.
    /// </summary>
    /// <typeparam name="T">The entry class.</typeparam>
    /// <returns>These options.</returns>
    public DmaBufIoOptions AddBuiltIn<T>()
        where T : IDmaBufIoPlugin, new() => AddBuiltIn(static () => new T());

    /// <summary>Adds a plugin that the application brings itself.</summary>
    /// <typeparam name="T">The entry class.</typeparam>
    /// <param name="create">Makes the entry object; called once per host.</param>
    /// <returns>These options.</returns>
    public DmaBufIoOptions AddBuiltIn<T>(Func<T> create)
        where T : IDmaBufIoPlugin
    {
        _builtIns.Add((typeof(T).FullName!, () => create()));
        return this;
    }

    /// <summary>
    /// Says where in-process device models get their address spaces from. Without it plugins that need a fabric are refused.
    /// </summary>
    /// <param name="create">Makes the fabric; called once at start. The host owns the fabric and disposes it last.</param>
    /// <returns>These options.</returns>
    public DmaBufIoOptions UseFabric(Func<IServiceProvider, IDmaFabric> create) => UseFabric((services, _) => create(services));

    /// <summary>Says where in-process device models get their address spaces from.</summary>
    /// <param name="create">
    /// Makes the fabric from the application's services and the final options; called once at start. The host owns the fabric and disposes
    /// it last.
    /// </param>
    /// <returns>These options.</returns>
    public DmaBufIoOptions UseFabric(Func<IServiceProvider, DmaBufIoOptions, IDmaFabric> create)
    {
        Fabric = create;
        OwnsFabric = true;
        return this;
    }

    /// <summary>Says where in-process device models get their address spaces from.</summary>
    /// <param name="fabric">The fabric; stays the caller's, and outlives the host.</param>
    /// <returns>These options.</returns>
    public DmaBufIoOptions UseFabric(IDmaFabric fabric)
    {
        Fabric = (_, _) => fabric;
        OwnsFabric = false;
        return this;
    }
}

/// <summary>What stands between devices and memory, by the kernel's names.</summary>
public enum IommuPolicy
{
    /// <summary>An unmapped address faults at once.</summary>
    Strict,

    /// <summary>Unmapped addresses may be served until the next flush.</summary>
    Lazy,

    /// <summary>Devices see memory without translation.</summary>
    Passthrough,
}
