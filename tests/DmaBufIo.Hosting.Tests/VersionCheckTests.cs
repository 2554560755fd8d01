using DmaBufIo.Hosting;
using Mono.Cecil;

namespace DmaBufIo.Tests;

public sealed class VersionCheckTests : IDisposable
{
    private readonly PluginYard _yard = new();

    public void Dispose() => _yard.Dispose();

    [Theory]
    [InlineData("DmaBufIo.Core", "0.2.0.0", "0.1.0.0")]
    [InlineData("DmaBufIo.Core", "0.1.0.1", "0.1.0.0")]
    [InlineData("Microsoft.Extensions.DependencyInjection.Abstractions", "11.0.0.0", "10.0.0.0")]
    [InlineData("Microsoft.Extensions.Configuration.Abstractions", "10.1.0.0", "10.0.0.0")]
    [InlineData("System.Runtime", "11.0.0.0", "10.0.0.0")]
    public void A_plugin_built_against_a_newer_shared_assembly_is_refused_with_both_versions_and_the_remedy(
        string name,
        string wanted,
        string present)
    {
        _yard.Add(PluginYard.Good);
        Refer(_yard.GoodAssembly, name, wanted);
        using DmaBufIoHost host = _yard.Start();

        PluginStatus status = Assert.Single(host.Plugins.All);

        Assert.Equal(PluginState.Refused, status.State);
        Assert.Equal(
            $"{PluginYard.Good}.dll was built against {name} {wanted}, and this host has {present}. Update the host to {name} {wanted} or newer, or build the plugin against {present} or older.",
            status.Reason);
    }

    [Fact]
    public void No_code_of_a_plugin_that_is_too_new_is_loaded()
    {
        _yard.Add(PluginYard.Good);
        Refer(_yard.GoodAssembly, "DmaBufIo.Core", "0.2.0.0");
        using DmaBufIoHost host = _yard.Start(static o => o.AssemblyLoader = static _ => throw new InvalidOperationException("the loader was asked"));

        Assert.Contains("was built against", Assert.Single(host.Plugins.All).Reason);
    }

    [Fact]
    public void A_private_library_built_against_a_newer_shared_assembly_is_found_too()
    {
        string folder = _yard.Add(PluginYard.Good);
        string library = Path.Combine(folder, PluginYard.Library + ".dll");
        PluginYard.Rewrite(
            library,
            library,
            static a => a.MainModule.AssemblyReferences.Add(new AssemblyNameReference("DmaBufIo.Core", new Version(0, 9, 0, 0))));
        using DmaBufIoHost host = _yard.Start();

        Assert.StartsWith(
            $"{PluginYard.Library}.dll was built against DmaBufIo.Core 0.9.0.0, and this host has 0.1.0.0",
            Assert.Single(host.Plugins.All).Reason);
    }

    [Theory]
    [InlineData("DmaBufIo.Core", "0.0.9.0")]
    [InlineData("Microsoft.Extensions.DependencyInjection.Abstractions", "8.0.0.0")]
    [InlineData("System.Runtime", "8.0.0.0")]
    public void A_plugin_built_against_an_older_shared_assembly_is_loaded(string name, string wanted)
    {
        _yard.Add(PluginYard.Good);
        Refer(_yard.GoodAssembly, name, wanted);
        using DmaBufIoHost host = _yard.Start();

        Assert.Null(Assert.Single(host.Plugins.All).Reason);
        host.Open("fake:a").Dispose();
    }

    [Fact]
    public void An_assembly_that_nobody_has_is_named()
    {
        _yard.Add(PluginYard.Good);
        PluginYard.Rewrite(
            _yard.GoodAssembly,
            _yard.GoodAssembly,
            static a => a.MainModule.AssemblyReferences.Add(new AssemblyNameReference("Contoso.Missing", new Version(1, 2, 3, 4))));
        using DmaBufIoHost host = _yard.Start();

        Assert.StartsWith(
            $"{PluginYard.Good}.dll needs Contoso.Missing 1.2.3.4, which is neither in its folder nor in the host",
            Assert.Single(host.Plugins.All).Reason);
    }

    private static void Refer(string assembly, string name, string version) => PluginYard.Rewrite(assembly, assembly, a =>
    {
        AssemblyNameReference reference = Assert.Single(a.MainModule.AssemblyReferences, r => r.Name == name);
        reference.Version = Version.Parse(version);
    });
}
