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
public sealed class ContractWorld : IDisposable
{
    private readonly List<PuppetExporter> _buffers = [];
    private readonly List<DriverFault> _driverFaults = [];
    private readonly Stack<Action> _endings = new();
    private readonly ThreadActors _threads = new();
    private readonly string _repeat;
    private string? _folder;
    private bool _faultsExpected;
    private bool _driverFaultsExpected;

    internal ContractWorld(IPluginFixture fixture, string repeat, ModelIommuOptions? iommu = null, bool isMetered = false)
    {
        _repeat = repeat;
        Hang.Limit = fixture.Patience ?? Hang.Usual;
        Iommu = new ModelIommu(iommu ?? new ModelIommuOptions { InvalidationThread = false });
        Fabric = new PuppetFabric(Iommu);
        DmaBufIoDiagnostics.DriverFaulted += OnDriverFault;
        var options = new DmaBufIoOptions { LoadPluginFolder = false };
        options.UseFabric(Fabric);
        options.AddBuiltIn<ModelsPlugin>();
        if (isMetered && fixture.PluginFolder is { } metered)
            options.AssemblyLoader = config => PluginLoader.Create(IsIn(metered, config) ? config with { Rewrite = PluginRewriter.Rewrite } : config);
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
        _buffers.Add(exporter);
        return exporter;
    }

    /// <summary>What is special about this run of a fact, for messages: a design, a direction. Empty for nothing.</summary>
    internal string Situation { get; set; } = "";

    /// <summary>What callbacks of drivers have thrown so far.</summary>
    internal IReadOnlyList<DriverFault> DriverFaults
    {
        get
        {
            lock (_driverFaults)
                return [.. _driverFaults];
        }
    }

    /// <summary>From now on refused accesses are what the fact is about.</summary>
    internal void ExpectFaults() => _faultsExpected = true;

    /// <summary>From now on exceptions from callbacks of the driver are what the fact is about.</summary>
    internal void ExpectDriverFaults() => _driverFaultsExpected = true;

    /// <summary>A rule is broken unless the condition holds.</summary>
    /// <param name="holds">The condition.</param>
    /// <param name="rule">The rule's number.</param>
    /// <param name="did">What the driver did otherwise, as a sentence.</param>
    internal void Check(bool holds, string rule, string did)
    {
        if (!holds)
            throw Broken(rule, did);
    }

    /// <summary>Waits for a condition; a rule is broken when it does not come.</summary>
    internal void Eventually(Func<bool> condition, string rule, string did)
    {
        if (!Hang.Until(condition))
            throw Broken(rule, $"{did} {Hang.Waited()}");
    }

    /// <summary>The exception that says which rule is broken.</summary>
    /// <param name="rule">The rule's number.</param>
    /// <param name="did">What the driver did, as a sentence.</param>
    /// <param name="inner">The cause, or null.</param>
    /// <param name="with">What must be in the environment to see it again: a seed. Empty for nothing.</param>
    internal BrokenRuleException Broken(string rule, string did, Exception? inner = null, string with = "") =>
        new(rule, Situation.Length == 0 ? did : $"{did} (With {Situation}.)", with.Length == 0 ? _repeat : $"{with} {_repeat}", inner, Page);

    /// <summary>The page of the contract, for messages; null for that of the rule.</summary>
    internal string? Page { get; init; }

    /// <summary>Runs something that should not throw; a rule is broken when it does.</summary>
    internal T Expect<T>(string rule, string doing, Func<T> act)
    {
        try
        {
            return act();
        }
        catch (Exception e) when (e is not BrokenRuleException and not OutOfMemoryException)
        {
            throw Broken(rule, $"{doing} it threw {e.GetType().Name}: {e.Message}", e);
        }
    }

    /// <summary>Waits until an actor has returned; a rule is broken when it does not. What it has thrown comes out here.</summary>
    internal void Ends(IActor actor, string rule, string did)
    {
        Eventually(() => actor.HasEnded, rule, did);
        actor.Join();
    }

    /// <summary>Does something that should come to its end by itself; a rule is broken when it does not.</summary>
    internal void Ends(string name, Action body, string rule, string did) => Ends(Actors.Start(name, body), rule, did);

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

    /// <summary>Closes everything and looks at what is left. Called by the contract when the fact has found nothing; <see cref="Dispose"/> alone looks at nothing.</summary>
    internal void CloseAndCheck()
    {
        _threads.JoinAll();
        CutStrings();
        foreach (PuppetExporter buffer in _buffers)
            Eventually(() => buffer.Buffer.References == 1, "T10", $"{buffer.Buffer.References - 1} references on the buffer {buffer.Buffer.Name} are held although every registration was removed and every file was closed.");
        foreach (PuppetExporter buffer in _buffers)
            Check(buffer.LiveTables == 0, "T8", $"{buffer.LiveTables} mappings of the buffer {buffer.Buffer.Name} were not given back: map was called {buffer.MapCalls} times and unmap {buffer.UnmapCalls} times.");
        Ends("closing", Host.CloseAll, "T10", "closing the devices did not come to its end.");
        DmaBufIoDiagnostics.DriverFaulted -= OnDriverFault;
        if (!_faultsExpected)
            Check(Iommu.Faults == 0 && Iommu.StaleAccesses == 0, "F7", $"the device touched memory that it may not: {string.Join(Environment.NewLine, Iommu.Reports.Take(3))}");
        IReadOnlyList<PuppetMapping> left = Fabric.Mappings;
        Check(left.Count == 0 && Iommu.LeakedMappings == 0, "T10", $"{Math.Max(left.Count, (int)Iommu.LeakedMappings)} mappings are left after the device was closed, for example of '{(left.Count != 0 ? left[0].Purpose : string.Join(", ", Iommu.LeakedMappingDescriptions.Take(1)))}'.");
        lock (_driverFaults)
        {
            if (!_driverFaultsExpected && _driverFaults.Count != 0)
                throw Broken("L4", $"{_driverFaults[0].Callback} threw {_driverFaults[0].Exception.GetType().Name}: {_driverFaults[0].Exception.Message}", _driverFaults[0].Exception);
        }
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

    private void OnDriverFault(DriverFault fault)
    {
        lock (_driverFaults)
            _driverFaults.Add(fault);
    }
}
