using DmaBufIo.Diagnostics;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Fixtures.FaultyPlugin;

/// <summary>
/// Disks in memory by the word <c>thing:SIZE[,colour=red|blue]</c>, correct but for one fault. It is told by the application's data and not by the configuration: some faults show before a
/// plugin is given that.
/// </summary>
public sealed class ThingPlugin : IDmaBufIoPlugin
{
    private volatile bool _registered;

    public ThingPlugin()
    {
        if (!Has("loads-once"))
            return;
        if (AppContext.GetData("faulty-plugin was loaded") is not null)
            throw new InvalidOperationException("it was loaded already");
        AppContext.SetData("faulty-plugin was loaded", "yes");
    }

    public PluginInfo Info => new(
        "faulty-plugin",
        new Version(1, 0),
        _registered && Has("info-changes") ? "Disks in memory, registered" : "Disks in memory",
        Has("kinds-lie") ? PluginKinds.Exporter : PluginKinds.Importer)
    {
        Words = Has("announces-too-much") ? ["thing", "ghost"] : ["thing"],
        Options = [new PluginOption("colour", "red or blue", "red", "What people see")],
    };

    /// <summary>Whether it has a fault.</summary>
    internal static bool Has(string fault) => (string?)AppContext.GetData("faulty-plugin") == fault;

    public void Register(IServiceCollection services, IConfiguration options)
    {
        _registered = true;
        services.AddSingleton<IBlockDeviceFactory, ThingFactory>();
        if (Has("keeps-a-handler"))
            DmaBufIoDiagnostics.LongWaitDetected += OnLongWait;
        if (Has("keeps-a-thread"))
            new Thread(WaitForEver) { Name = "thing waits", IsBackground = true }.Start();
    }

    private static void OnLongWait(LongWait wait)
    {
    }

    private void WaitForEver()
    {
        while (_registered)
            Thread.Sleep(1000);
    }
}
