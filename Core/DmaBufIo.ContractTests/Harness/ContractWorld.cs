using DmaBufIo.Diagnostics;
using DmaBufIo.Hosting;
using DmaBufIo.Hosting.Loading;
using DmaBufIo.Models;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using Microsoft.Extensions.Configuration;

namespace DmaBufIo.ContractTests;

/// <summary>
/// What a fact stands on: a host that has loaded the plugin as any host would, devices behind a modelled IOMMU with strings, buffers on strings, a folder for files. Disposing it checks
/// that nothing is left: no request, no mapping, no reference, no access that should not have been.
/// </summary>
public sealed partial class ContractWorld : IDisposable
{
    private readonly List<PuppetExporter> _buffers = [];
    private readonly Stack<Action> _endings = new();
    private readonly ThreadActors _threads = new();
    private readonly RunningFact _fact;
    private string? _folder;

    internal ContractWorld(IPluginFixture fixture, RunningFact fact, ModelIommuOptions? iommu = null, PluginCode code = PluginCode.AsWritten)
    {
        _fact = fact;
        Hang.Begin(fact.Contract, fixture.Patience);
        Iommu = new ModelIommu(iommu ?? new ModelIommuOptions { InvalidationThread = false });
        Fabric = new PuppetFabric(Iommu);
        DmaBufIoDiagnostics.DriverFaulted += OnDriverFault;
        var options = new DmaBufIoOptions { LoadPluginFolder = false };
        options.UseFabric(Fabric);
        options.AddBuiltIn<ModelsPlugin>();
        if (code != PluginCode.AsWritten && fixture.PluginFolder is { } rewritten)
            options.AssemblyLoader = config => PluginLoader.Create(IsIn(rewritten, config) ? config with { Rewrite = image => PluginRewriter.Rewrite(image, code) } : config);
        fixture.Configure(options);
        try
        {
            Host = DmaBufIoHost.Create(options, null, Configuration(fixture));
            foreach (string folder in fixture.OtherPluginFolders)
                Load(folder);
            if (fixture.PluginFolder is { } own)
                Plugin = Load(own);
        }
        catch
        {
            Host?.Dispose();
            Iommu.Dispose();
            DmaBufIoDiagnostics.DriverFaulted -= OnDriverFault;
            throw;
        }
    }

    /// <summary>The host, with the plugin loaded.</summary>
    public DmaBufIoHost Host { get; }

    /// <summary>What became of the plugin; null for one that the fixture builds in.</summary>
    public PluginStatus? Plugin { get; }

    /// <summary>The strings between devices and memory.</summary>
    public PuppetFabric Fabric { get; }

    /// <summary>The modelled IOMMU: strict.</summary>
    public ModelIommu Iommu { get; }

    /// <summary>Where threads come from.</summary>
    internal IActors Actors => _threads;

    /// <summary>A folder of this world's own, removed with it.</summary>
    public string Folder => _folder ??= Directory.CreateTempSubdirectory("dmabufio-contract-").FullName;

    /// <summary>Makes a file for a device to keep its data in.</summary>
    /// <param name="name">Its name in <see cref="Folder"/>.</param>
    /// <param name="size">Bytes; they are zero.</param>
    /// <returns>Its path.</returns>
    public string CreateFile(string name, long size)
    {
        string path = Path.Combine(Folder, name);
        using FileStream file = File.Create(path);
        file.SetLength(size);
        return path;
    }

    /// <summary>Makes a buffer on strings. The world drops its reference.</summary>
    /// <param name="name">A name for messages.</param>
    /// <param name="pieces">The lengths of its pieces of memory, whole pages.</param>
    public PuppetExporter CreateBuffer(string name, params long[] pieces)
    {
        var exporter = PuppetExporter.Create(name, pieces);
        exporter.InFree = region => Quarantine.Add(region, _fact.Name);
        _buffers.Add(exporter);
        return exporter;
    }

    /// <summary>What <see cref="GiveUp"/> has to close before this world, if it was not closed by then: idempotent.</summary>
    internal void AtGiveUp(Action close) => _endings.Push(close);

    /// <summary>
    /// A fact has found something, or was skipped. Closes everything; what fails or hangs now does so because of what was found, and that is what is told. A driver that hangs is left behind
    /// with all it stands on: memory is not taken away under its threads.
    /// </summary>
    internal void GiveUp()
    {
        var closing = new Thread(() =>
        {
            try
            {
                while (_endings.TryPop(out Action? close))
                    close();
                if (WaitForActors())
                    Dispose();
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                // Told already, by what was found.
            }
        })
        { IsBackground = true, Name = "giving up" };
        closing.Start();
        closing.Join(Hang.Limit);
    }

    /// <summary>A fact has failed: waits until its actors have returned.</summary>
    /// <returns>False when one is stuck. What it uses must stay then.</returns>
    internal bool WaitForActors() => _threads.WaitForAll();

    /// <summary>Closes everything.</summary>
    public void Dispose()
    {
        DmaBufIoDiagnostics.DriverFaulted -= OnDriverFault;
        CutStrings();
        try
        {
            Host.Dispose();
            foreach (PuppetExporter buffer in _buffers)
                buffer.Buffer.Put();
        }
        finally
        {
            Iommu.Dispose();
            if (_folder is not null)
                Directory.Delete(_folder, recursive: true);
        }
    }

    private static IConfiguration Configuration(IPluginFixture fixture) =>
        new ConfigurationBuilder().AddInMemoryCollection(fixture.Settings.Select(static s => new KeyValuePair<string, string?>($"{DmaBufIoOptions.SectionName}:Plugins:{s.Key}", s.Value))).Build();

    private void CutStrings()
    {
        Fabric.OnDma = null;
        Fabric.AfterDma = null;
        Fabric.OnMap = null;
        Fabric.OnUnmap = null;
        Fabric.OnSync = null;
    }

    private static bool IsIn(string folder, PluginConfig config) => Path.GetDirectoryName(config.MainAssemblyPath) == Path.GetFullPath(folder).TrimEnd(Path.DirectorySeparatorChar);

    private PluginStatus Load(string folder)
    {
        PluginStatus status = Host.Plugins.Load(folder);
        return status.State == PluginState.Loaded ? status : throw Broken("L1", $"the host refused the plugin from {folder}: {status.Reason}");
    }
}
