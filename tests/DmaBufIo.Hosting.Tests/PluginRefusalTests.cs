using DmaBufIo.Dma;
using DmaBufIo.Hosting;
using Mono.Cecil;

namespace DmaBufIo.Tests;

public sealed class PluginRefusalTests : IDisposable
{
    private readonly PluginYard _yard = new();

    public void Dispose() => _yard.Dispose();

    [Theory]
    [InlineData("ConstructorThrows", "The constructor of DmaBufIo.Fixtures.Faulty.FaultyPlugin threw System.InvalidOperationException: the constructor is broken")]
    [InlineData("InfoThrows", "FaultyPlugin.Info threw System.InvalidOperationException: the info is broken")]
    [InlineData("InfoIsNull", "its Info is null")]
    [InlineData("NameIsWrong", "its name 'Upper Case' is not made of lower-case letters")]
    [InlineData("NameIsTaken", "the name 'good' is taken by the plugin from ")]
    [InlineData("RegisterThrows", "FaultyPlugin.Register threw System.InvalidOperationException: the registration is broken")]
    [InlineData("KeyedServices", "it registers the keyed service FaultyPlugin (key 'left'), and keyed services are not supported")]
    [InlineData("FactoryThrows", "making its factories threw System.InvalidOperationException: the factory is broken")]
    [InlineData("NeedsFabric", "the plugin needs a DMA fabric, and this host has none")]
    [InlineData("NeedsUnknown", "Cannot resolve parameter")]
    [InlineData("WordIsWrong", "its word 'Two Words' is not made of lower-case letters")]
    [InlineData("WordIsTaken", "the device word 'fake' is taken by plugin good")]
    [InlineData("WordIsTwice", "two of its factories have the device word 'twice'")]
    public void A_plugin_that_goes_wrong_is_refused_with_the_reason_and_the_others_are_loaded(string fault, string reason)
    {
        _yard.Add(PluginYard.Good);
        string folder = _yard.AddRenamed(PluginYard.Faulty, fault);

        using DmaBufIoHost host = _yard.Start();

        AssertRefused(host, folder, reason);
        Assert.Equal(["good"], host.Plugins.All.Where(static s => s.State == PluginState.Loaded).Select(static s => s.Name));
        host.Open("fake:a").Dispose();
    }

    [Fact]
    public void A_refused_plugin_is_listed_with_what_it_could_still_say()
    {
        _yard.AddRenamed(PluginYard.Faulty, "RegisterThrows");
        using DmaBufIoHost host = _yard.Start();

        PluginStatus status = Assert.Single(host.Plugins.All);
        Assert.Equal("faulty-registerthrows", status.Name);
        Assert.Equal(new Version(1, 0), status.Version);
        Assert.Equal("Goes wrong", status.Description);
    }

    [Fact]
    public void A_fabric_reaches_the_plugin_that_needs_one()
    {
        _yard.AddRenamed(PluginYard.Faulty, "NeedsFabric");
        using DmaBufIoHost host = _yard.Start(static o => o.UseFabric(new NoFabric()));

        Assert.Equal(["fabric-nofabric"], host.Plugins.DeviceWords);
    }

    [Fact]
    public void Two_entry_classes_are_refused_and_named()
    {
        string folder = _yard.Add(PluginYard.TwoEntries);
        using DmaBufIoHost host = _yard.Start();

        AssertRefused(
            host,
            folder,
            "it holds 2 classes that implement IDmaBufIoPlugin: DmaBufIo.Fixtures.TwoEntries.FirstEntry, DmaBufIo.Fixtures.TwoEntries.SecondEntry");
    }

    [Fact]
    public void An_assembly_without_an_entry_class_is_refused()
    {
        string folder = _yard.Add(PluginYard.Library);
        using DmaBufIoHost host = _yard.Start();

        AssertRefused(host, folder, "it holds no public class that implements IDmaBufIoPlugin.");
    }

    [Fact]
    public void A_hidden_entry_class_is_refused_and_named()
    {
        string folder = Rewritten(static a => a.MainModule.GetType("DmaBufIo.Fixtures.Faulty.FaultyPlugin").IsPublic = false);
        using DmaBufIoHost host = _yard.Start();

        AssertRefused(host, folder, "(DmaBufIo.Fixtures.Faulty.FaultyPlugin is not public)");
    }

    [Fact]
    public void An_entry_class_without_a_public_constructor_is_refused()
    {
        string folder = Rewritten(static a =>
        {
            foreach (MethodDefinition constructor in a.MainModule.GetType("DmaBufIo.Fixtures.Faulty.FaultyPlugin").Methods.Where(static m => m.IsConstructor))
                constructor.IsPublic = false;
        });
        using DmaBufIoHost host = _yard.Start();

        AssertRefused(host, folder, "FaultyPlugin has no public parameterless constructor");
    }

    [Fact]
    public void A_file_that_is_no_assembly_is_refused()
    {
        string folder = Directory.CreateDirectory(Path.Combine(_yard.Folder, "text")).FullName;
        File.WriteAllText(Path.Combine(folder, "text.dll"), "this is no assembly");
        using DmaBufIoHost host = _yard.Start();

        AssertRefused(host, folder, "is not a whole .NET assembly");
    }

    [Fact]
    public void An_assembly_cut_off_anywhere_is_refused_and_the_process_lives_on()
    {
        byte[] whole = File.ReadAllBytes(Path.Combine(PluginYard.FixtureFolder(PluginYard.Faulty), PluginYard.Faulty + ".dll"));
        string folder = Directory.CreateDirectory(Path.Combine(_yard.Folder, "cut")).FullName;
        using DmaBufIoHost host = _yard.Start();

        for (int length = 0; length < whole.Length - 512; length += 97)
        {
            File.WriteAllBytes(Path.Combine(folder, "cut.dll"), whole.AsSpan(0, length));
            PluginStatus status = host.Plugins.Load(folder);
            Assert.Equal(PluginState.Refused, status.State);
            Assert.NotEmpty(status.Reason!);
        }
    }

    [Fact]
    public void A_private_dependency_that_is_missing_is_refused_and_named()
    {
        string folder = _yard.Add(PluginYard.Good);
        File.Delete(Path.Combine(folder, PluginYard.Library + ".dll"));
        using DmaBufIoHost host = _yard.Start();

        AssertRefused(host, folder, PluginYard.Library);
    }

    [Fact]
    public void A_broken_deps_json_is_refused()
    {
        string folder = _yard.Add(PluginYard.Good);
        File.WriteAllText(Path.Combine(folder, PluginYard.Good + ".deps.json"), "{ broken");
        using DmaBufIoHost host = _yard.Start();

        AssertRefused(host, folder, "");
    }

    [Fact]
    public void A_folder_without_an_entry_assembly_is_refused_with_the_rule()
    {
        string empty = Directory.CreateDirectory(Path.Combine(_yard.Folder, "empty")).FullName;
        string two = Directory.CreateDirectory(Path.Combine(_yard.Folder, "two")).FullName;
        File.WriteAllText(Path.Combine(two, "a.deps.json"), "{}");
        File.WriteAllText(Path.Combine(two, "b.deps.json"), "{}");
        string lost = Directory.CreateDirectory(Path.Combine(_yard.Folder, "lost")).FullName;
        File.WriteAllText(Path.Combine(lost, "a.deps.json"), "{}");
        using DmaBufIoHost host = _yard.Start();

        AssertRefused(host, empty, "it holds neither empty.dll nor a deps.json");
        AssertRefused(host, two, "its entry assembly is ambiguous");
        AssertRefused(host, lost, "a.deps.json is there and a.dll is not");
        Assert.All(host.Plugins.All, static s => Assert.Contains("Name the folder after the entry assembly", s.Reason));
    }

    [Fact]
    public void A_plugin_that_was_refused_is_loaded_once_it_is_repaired()
    {
        string folder = _yard.Add(PluginYard.Good);
        byte[] whole = File.ReadAllBytes(_yard.GoodAssembly);
        File.WriteAllBytes(_yard.GoodAssembly, whole.AsSpan(0, 1000));
        using DmaBufIoHost host = _yard.Start();
        AssertRefused(host, folder, "");

        File.WriteAllBytes(_yard.GoodAssembly, whole);

        Assert.Equal(PluginState.Loaded, host.Plugins.Load(folder).State);
        Assert.Equal("good", Assert.Single(host.Plugins.All).Name);
    }

    private string Rewritten(Action<AssemblyDefinition> change)
    {
        string folder = _yard.Add(PluginYard.Faulty);
        string assembly = Path.Combine(folder, PluginYard.Faulty + ".dll");
        PluginYard.Rewrite(assembly, assembly, change);
        return folder;
    }

    private void AssertRefused(DmaBufIoHost host, string folder, string reason)
    {
        PluginStatus status = Assert.Single(host.Plugins.All, s => s.Folder == folder);
        Assert.Equal(PluginState.Refused, status.State);
        Assert.Contains(reason, status.Reason, StringComparison.OrdinalIgnoreCase);
        Assert.Contains(_yard.Logs.Lines, l => l.Event.Id == 1001 && l.Text.Contains(folder, StringComparison.Ordinal));
    }

    private sealed class NoFabric : IDmaFabric
    {
        public (DmaAddressSpace Space, DmaPort Port) AddDevice(string deviceName) => throw new NotSupportedException("No device is added.");

        public void RemoveDevice(DmaAddressSpace space)
        {
        }
    }
}
