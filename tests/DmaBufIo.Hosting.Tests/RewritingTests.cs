using System.Collections.Concurrent;
using System.Reflection;
using System.Runtime.Loader;
using DmaBufIo.Hosting;
using DmaBufIo.Hosting.Loading;
using DmaBufIo.Models;
using DmaBufIo.Models.Iommu;
using Mono.Cecil;

namespace DmaBufIo.Tests;

/// <summary>A host that changes the code of plugins before it is loaded: <see cref="PluginConfig.Rewrite"/>.</summary>
public sealed class RewritingTests : IDisposable
{
    private readonly PluginYard _yard = new();

    public void Dispose() => _yard.Dispose();

    [Fact]
    public void The_assemblies_of_a_plugins_own_are_changed_before_they_are_loaded_each_once_and_those_of_the_host_never()
    {
        _yard.Add(PluginYard.Good);
        var seen = new ConcurrentQueue<string>();
        using var iommu = new ModelIommu();
        using DmaBufIoHost host = _yard.Start(o =>
        {
            o.UseFabric(iommu).AddBuiltIn<ModelsPlugin>();
            o.AssemblyLoader = config => PluginLoader.Create(config with { Rewrite = image => Marked(image, seen) });
        });
        Assert.Equal(PluginState.Loaded, Assert.Single(host.Plugins.All, static p => !p.IsBuiltIn).State);
        using OpenedDevice first = host.Open("fake:a");
        using OpenedDevice second = host.Open("fake:b");

        AssemblyLoadContext context = AssemblyLoadContext.GetLoadContext(first.BlockDevice.GetType().Assembly)!;
        Assert.Equal(context.Assemblies.Select(static a => a.GetName().Name!).Order(), seen.Order());
        Assert.Contains(PluginYard.Good, seen);
        Assert.All(context.Assemblies, static a => Assert.Equal("yes", MarkOf(a)));
        Assert.Null(MarkOf(typeof(DmaBufIoHost).Assembly));
        Assert.Null(MarkOf(typeof(Rings.Ring).Assembly));
    }

    [Fact]
    public void What_is_on_the_disk_stays_as_it_was()
    {
        _yard.Add(PluginYard.Good);
        byte[] before = File.ReadAllBytes(_yard.GoodAssembly);
        using IPluginAssemblyLoader loader = PluginLoader.Create(new PluginConfig(_yard.GoodAssembly) { Rewrite = static image => Marked(image, []) });

        Assert.Equal("yes", MarkOf(loader.LoadDefaultAssembly()));
        Assert.Equal(before, File.ReadAllBytes(_yard.GoodAssembly));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_change_that_fails_or_gives_no_assembly_refuses_that_plugin_and_no_other(bool throws)
    {
        _yard.Add(PluginYard.Good);
        _yard.Add(PluginYard.Held);
        using var iommu = new ModelIommu();
        using DmaBufIoHost host = _yard.Start(o =>
        {
            o.UseFabric(iommu).AddBuiltIn<ModelsPlugin>();
            o.AssemblyLoader = config => PluginLoader.Create(config.MainAssemblyPath == _yard.GoodAssembly
                ? config with { Rewrite = _ => throws ? throw new NotSupportedException("no way to change it") : [1, 2, 3] }
                : config);
        });

        PluginStatus refused = Assert.Single(host.Plugins.All, static p => p.State == PluginState.Refused);
        Assert.Equal(Path.GetDirectoryName(_yard.GoodAssembly), refused.Folder);
        if (throws)
            Assert.Contains("no way to change it", refused.Reason, StringComparison.Ordinal);
        else
            Assert.NotEmpty(refused.Reason!);
        Assert.Contains(host.Plugins.All, static p => p is { Name: "held", State: PluginState.Loaded });
    }

    private static string? MarkOf(Assembly assembly) =>
        assembly.GetCustomAttributes<AssemblyMetadataAttribute>().FirstOrDefault(static m => m.Key == "changed")?.Value;

    private static byte[] Marked(byte[] image, ConcurrentQueue<string> seen)
    {
        using var source = new MemoryStream(image);
        using AssemblyDefinition assembly = AssemblyDefinition.ReadAssembly(source);
        seen.Enqueue(assembly.Name.Name);
        MethodReference constructor = assembly.MainModule.ImportReference(typeof(AssemblyMetadataAttribute).GetConstructor([typeof(string), typeof(string)]));
        TypeReference text = assembly.MainModule.TypeSystem.String;
        assembly.CustomAttributes.Add(new CustomAttribute(constructor)
        {
            ConstructorArguments = { new CustomAttributeArgument(text, "changed"), new CustomAttributeArgument(text, "yes") },
        });
        using var target = new MemoryStream();
        assembly.Write(target);
        return target.ToArray();
    }
}
