using System.Globalization;
using System.Reflection;
using System.Runtime.Loader;
using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Hosting.Loading;
using DmaBufIo.Plugins;

namespace DmaBufIo.Tests;

public sealed class PluginLoadingTests : IDisposable
{
    private readonly PluginYard _yard = new();

    public void Dispose() => _yard.Dispose();

    [Fact]
    public void A_plugin_tells_who_it_is_and_nothing_of_it_was_in_the_default_context()
    {
        string folder = _yard.Add(PluginYard.Good);

        using DmaBufIoHost host = _yard.Start();

        PluginStatus status = Assert.Single(host.Plugins.All);
        Assert.Equal(PluginState.Loaded, status.State);
        Assert.Null(status.Reason);
        Assert.Equal("good", status.Name);
        Assert.Equal(folder, status.Folder);
        Assert.Equal(new Version(0, 1, 0, 0), status.Version);
        Assert.Equal(PluginKinds.Importer | PluginKinds.Exporter | PluginKinds.PciFunction, status.Kinds);
        Assert.Equal(["fake", "pair", "plain"], status.Words);
        Assert.Equal("fail", Assert.Single(status.Options).Name);
        Assert.False(status.IsBuiltIn);
        Assert.True(status.IsUnloadable);
        Assert.Equal(["fake", "pair"], host.Plugins.DeviceWords);
        Assert.Equal(["plain"], host.Plugins.ExporterWords);
        Assert.DoesNotContain(
            AssemblyLoadContext.Default.Assemblies,
            static a => a.GetName().Name!.StartsWith("DmaBufIo.Fixtures", StringComparison.Ordinal));
    }

    [Fact]
    public void A_private_dependency_comes_from_the_plugins_folder()
    {
        _yard.Add(PluginYard.Good);
        using DmaBufIoHost host = _yard.Start();

        Assert.Equal("private library at work", Assert.Single(host.Plugins.All).Description);
    }

    [Fact]
    public void Satellite_assemblies_of_several_cultures_are_loaded_side_by_side()
    {
        _yard.Add(PluginYard.Good);
        using IPluginAssemblyLoader loader = PluginLoader.Create(new PluginConfig(_yard.GoodAssembly));
        Assembly plugin = loader.LoadDefaultAssembly();

        Assert.Equal(
            ["de", "fr", "de"],
            new[] { "de", "fr", "de" }.Select(c => plugin.GetSatelliteAssembly(CultureInfo.GetCultureInfo(c)).GetName().CultureName));
    }

    [Fact]
    public void Loading_a_folder_again_passes_over_what_is_loaded_and_loads_what_has_come()
    {
        _yard.Add(PluginYard.Good);
        using DmaBufIoHost host = _yard.Start();
        PluginStatus good = Assert.Single(host.Plugins.All);
        List<PluginChangedEventArgs> changes = DrainTests.Changes(host);
        string come = _yard.AddRenamed(PluginYard.Faulty, "DisposeThrows");
        _yard.AddRenamed(PluginYard.Faulty, "InfoIsNull");

        IReadOnlyList<PluginStatus> found = host.Plugins.LoadAll(_yard.Folder);

        Assert.Equal([come, good.Folder, Path.Combine(_yard.Folder, "InfoIsNull")], found.Select(static p => p.Folder));
        Assert.Same(good, found.Single(static p => p.Name == "good"));
        Assert.Equal([PluginChange.Loaded, PluginChange.Refused], changes.Select(static c => c.Change));
        host.Plugins.Unload("DisposeThrows"); // so that the host ends without it
    }

    [Fact]
    public void Shared_types_are_the_hosts_even_when_the_plugin_brings_a_copy()
    {
        string folder = _yard.Add(PluginYard.Good);
        foreach (string copy in new[] { "DmaBufIo.Core.dll", "Microsoft.Extensions.DependencyInjection.Abstractions.dll" })
            File.Copy(Path.Combine(AppContext.BaseDirectory, copy), Path.Combine(folder, copy));
        File.Delete(Path.Combine(folder, PluginYard.Good + ".deps.json"));
        using DmaBufIoHost host = _yard.Start();

        using OpenedDevice device = host.Open("fake:a");

        Assert.IsType<BlockDevice>(device.BlockDevice, exactMatch: false);
        Assert.Equal([PluginYard.Good, PluginYard.Library], ContextOf(device).Assemblies.Select(static a => a.GetName().Name).Order());
    }

    [Fact]
    public void Assemblies_are_read_and_not_mapped_so_that_the_file_may_change()
    {
        _yard.Add(PluginYard.Good);
        using DmaBufIoHost host = _yard.Start();
        using OpenedDevice device = host.Open("fake:a");

        Assert.All(ContextOf(device).Assemblies, static a => Assert.Equal("", a.Location));
        Assert.DoesNotContain(_yard.Folder, File.ReadAllText("/proc/self/maps"));
    }

    [Fact]
    public void Symbols_beside_the_assembly_are_loaded_with_it()
    {
        _yard.Add(PluginYard.Good);
        using DmaBufIoHost host = _yard.Start();

        var error = Assert.Throws<InvalidOperationException>(() => host.Open("pair:x,fail(fake:a)"));

        Assert.Contains("FakeDisk.cs:line", error.StackTrace);
    }

    [Fact]
    public void The_only_deps_json_names_the_entry_where_the_folder_does_not()
    {
        _yard.Add(PluginYard.Good, "some-name");
        using DmaBufIoHost host = _yard.Start();

        Assert.Equal(("good", PluginState.Loaded), Assert.Single(host.Plugins.All.Select(static s => (s.Name, s.State))));
    }

    [Fact]
    public void Folders_that_begin_with_a_dot_are_passed_over()
    {
        _yard.Add(PluginYard.Good, ".unpacking");
        using DmaBufIoHost host = _yard.Start();

        Assert.Empty(host.Plugins.All);
        Assert.Contains(_yard.Logs.Lines, static l => l.Event.Id == 1003);
    }

    [Fact]
    public void A_missing_plugin_folder_is_an_error_that_names_it_and_the_remedy()
    {
        string missing = Path.Combine(_yard.Folder, "nowhere");

        var error = Assert.Throws<DmaBufIoException>(() => _yard.Start(o => o.PluginFolder = missing));

        Assert.Equal(Errno.ENOENT, error.Errno);
        Assert.Contains(missing, error.Message);
        Assert.Contains("DmaBufIo:PluginFolder", error.Remedy);
    }

    [Fact]
    public void A_plugin_folder_that_is_a_file_is_refused()
    {
        string file = Path.Combine(_yard.Folder, "file");
        File.WriteAllText(file, "");

        var error = Assert.Throws<DmaBufIoException>(() => _yard.Start(o => o.PluginFolder = file));

        Assert.Equal(Errno.EINVAL, error.Errno);
        Assert.Contains("it is a file", error.Problem);
    }

    [Fact]
    public void The_default_folder_lies_beside_the_application() =>
        Assert.Equal(Path.Combine(AppContext.BaseDirectory, "plugins"), new DmaBufIoOptions().PluginFolder);

    [Fact]
    public void A_plugin_logs_through_the_hosts_loggers()
    {
        _yard.Add(PluginYard.Good);
        using DmaBufIoHost host = _yard.Start();
        host.Open("fake:a").Dispose();

        Assert.Contains(
            _yard.Logs.Lines,
            static l => l.Category == "DmaBufIo.Fixtures.Good.FakeFunctionFactory" && l.Text == "Function a made");
    }

    [Fact]
    public void A_host_may_load_plugins_for_good()
    {
        _yard.Add(PluginYard.Good);
        using DmaBufIoHost host = _yard.Start(static o => o.NonCollectiblePlugins = true);

        Assert.False(Assert.Single(host.Plugins.All).IsUnloadable);
        using (OpenedDevice device = host.Open("fake:a"))
            Assert.False(ContextOf(device).IsCollectible);

        UnloadedPlugin unloaded = host.Plugins.Unload("good");
        Assert.False(unloaded.IsUnloadable);
        Assert.False(unloaded.IsCollected);
        Assert.Empty(host.Plugins.DeviceWords);
    }

    [Fact]
    public void Another_assembly_loader_can_be_put_in()
    {
        _yard.Add(PluginYard.Good);
        var seen = new List<PluginConfig>();
        using DmaBufIoHost host = _yard.Start(o =>
        {
            o.SharedAssemblies.Add("Contracts.Of.The.Application");
            o.AssemblyLoader = config =>
            {
                seen.Add(config);
                return PluginLoader.Create(config);
            };
        });

        PluginConfig config = Assert.Single(seen);
        Assert.Equal(_yard.GoodAssembly, config.MainAssemblyPath);
        Assert.True(config.IsUnloadable);
        Assert.Equal(["Contracts.Of.The.Application"], config.SharedAssemblies);
        Assert.Equal(PluginState.Loaded, Assert.Single(host.Plugins.All).State);
    }

    [Fact]
    public void An_assembly_that_the_application_shares_is_the_hosts()
    {
        string folder = _yard.Add(PluginYard.Good);

        // The test assembly is the host's; as a plugin it would be a second one.
        string own = typeof(PluginLoadingTests).Assembly.GetName().Name!;
        File.Copy(typeof(PluginLoadingTests).Assembly.Location, Path.Combine(folder, own + ".dll"));
        File.Delete(Path.Combine(folder, PluginYard.Good + ".deps.json"));

        using IPluginAssemblyLoader apart = PluginLoader.Create(new PluginConfig(_yard.GoodAssembly));
        using IPluginAssemblyLoader shared = PluginLoader.Create(new PluginConfig(_yard.GoodAssembly) { SharedAssemblies = [own] });

        Assert.NotSame(typeof(PluginLoadingTests).Assembly, Load(apart, own));
        Assert.Same(typeof(PluginLoadingTests).Assembly, Load(shared, own));
    }

    [Fact]
    public void Hosting_does_not_know_the_models() =>
        Assert.DoesNotContain(typeof(DmaBufIoHost).Assembly.GetReferencedAssemblies(), static a => a.Name == "DmaBufIo.Models");

    [Fact]
    public void A_folder_is_loaded_once()
    {
        string folder = _yard.Add(PluginYard.Good);
        using DmaBufIoHost host = _yard.Start();

        Assert.Equal(Errno.EEXIST, Assert.Throws<DmaBufIoException>(() => host.Plugins.Load(folder)).Errno);
    }

    private static AssemblyLoadContext ContextOf(OpenedDevice device) => AssemblyLoadContext.GetLoadContext(device.BlockDevice.GetType().Assembly)!;

    private static Assembly Load(IPluginAssemblyLoader loader, string name) =>
        AssemblyLoadContext.GetLoadContext(loader.LoadDefaultAssembly())!.LoadFromAssemblyName(new AssemblyName(name));
}
