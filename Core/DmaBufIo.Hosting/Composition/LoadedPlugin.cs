using System.Runtime.Loader;
using Autofac;
using DmaBufIo.DmaBufs;
using DmaBufIo.Hosting.Loading;
using DmaBufIo.Plugins;

namespace DmaBufIo.Hosting;

/// <summary>
/// A plugin that works: its scope, its factories, and what was made by it and is still alive. Counts are the manager's to guard.
/// </summary>
internal sealed class LoadedPlugin
{
    private readonly List<DmaBuf> _buffers = [];
    private ILifetimeScope? _scope;
    private IPluginAssemblyLoader? _loader;
    private IDmaBufIoPlugin? _entry;

    internal LoadedPlugin(IDmaBufIoPlugin entry, ILifetimeScope scope, IPluginAssemblyLoader? loader)
    {
        _entry = entry;
        _scope = scope;
        _loader = loader;
        Drivers = [.. scope.Resolve<IEnumerable<IPciDriver>>()];

        // The words are read once: the tables are looked up with a lock held, where no code of a plugin may run.
        Functions = [.. scope.Resolve<IEnumerable<IPciFunctionFactory>>().Select(static f => (f.Word, f))];
        BlockDevices = [.. scope.Resolve<IEnumerable<IBlockDeviceFactory>>().Select(static f => (f.Word, f))];
        Files = [.. scope.Resolve<IEnumerable<IFileFactory>>().Select(static f => (f.Word, f))];
        RdmaDevices = [.. scope.Resolve<IEnumerable<IRdmaDeviceFactory>>().Select(static f => (f.Word, f))];
        Exporters = [.. scope.Resolve<IEnumerable<IExporterFactory>>().Select(static f => (f.Word, f))];
    }

    internal PluginStatus Status { get; set; } = new("", PluginState.Refused);

    /// <summary>Nothing new is made of it.</summary>
    internal bool IsDraining => Status.State == PluginState.Draining;

    internal IReadOnlyList<(string Word, IPciFunctionFactory Factory)> Functions { get; private set; }

    internal IReadOnlyList<IPciDriver> Drivers { get; private set; }

    internal IReadOnlyList<(string Word, IBlockDeviceFactory Factory)> BlockDevices { get; private set; }

    internal IReadOnlyList<(string Word, IFileFactory Factory)> Files { get; private set; }

    internal IReadOnlyList<(string Word, IRdmaDeviceFactory Factory)> RdmaDevices { get; private set; }

    internal IReadOnlyList<(string Word, IExporterFactory Factory)> Exporters { get; private set; }

    /// <summary>Devices made by this plugin that are open.</summary>
    internal int Devices { get; set; }

    /// <summary>It was to go, and something of it was alive: until the next try.</summary>
    internal bool IsKept { get; set; }

    /// <summary>Something that it has made is alive, or its code runs.</summary>
    internal bool IsAlive => Devices != 0 || CountBuffers() != 0;

    internal IEnumerable<string> DeviceWords =>
        [.. Functions.Select(static f => f.Word), .. BlockDevices.Select(static f => f.Word), .. Files.Select(static f => f.Word), .. RdmaDevices.Select(static f => f.Word)];

    internal IEnumerable<string> ExporterWords => Exporters.Select(static f => f.Word);

    internal IPciFunctionFactory? Function(string word) => Functions.FirstOrDefault(f => f.Word == word).Factory;

    internal IBlockDeviceFactory? BlockDevice(string word) => BlockDevices.FirstOrDefault(f => f.Word == word).Factory;

    internal IFileFactory? File(string word) => Files.FirstOrDefault(f => f.Word == word).Factory;

    internal IRdmaDeviceFactory? RdmaDevice(string word) => RdmaDevices.FirstOrDefault(f => f.Word == word).Factory;

    internal IExporterFactory? Exporter(string word) => Exporters.FirstOrDefault(f => f.Word == word).Factory;

    internal void AddBuffer(DmaBuf buffer)
    {
        CountBuffers();
        _buffers.Add(buffer);
    }

    /// <summary>Buffers of this plugin that someone still holds a reference to (the application, a registration, a token), or that are being freed: the exporter's code still runs then.</summary>
    internal int CountBuffers()
    {
        _buffers.RemoveAll(static b => b.IsFreed);
        return _buffers.Count;
    }

    /// <summary>Names of those buffers, with the references that are left.</summary>
    internal IReadOnlyList<(string Name, int References)> LivingBuffers() =>
        [.. _buffers.Where(static b => !b.IsFreed).Select(static b => (b.Name, b.References))];

    /// <summary>Its load context, where that can be collected; null otherwise, and once it was unloaded.</summary>
    internal WeakReference? Context => _loader is { IsUnloadable: true }
        ? new WeakReference(AssemblyLoadContext.GetLoadContext(_entry!.GetType().Assembly))
        : null;

    /// <summary>
    /// Disposes the scope with everything in it and the entry object, then unloads. Forgets every object of the plugin, also when one of
    /// them throws.
    /// </summary>
    internal void Unload()
    {
        using var owned = new OwnedStack();
        Functions = [];
        Drivers = [];
        BlockDevices = [];
        Files = [];
        RdmaDevices = [];
        Exporters = [];
        _buffers.Clear();

        if (_loader is not null)
            owned.Push(_loader);
        if (_entry is IDisposable disposable)
            owned.Push(disposable);
        if (_scope is not null)
            owned.Push(_scope);
        _loader = null;
        _entry = null;
        _scope = null;
    }
}
