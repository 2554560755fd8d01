using DmaBufIo.Hosting;
using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests;

/// <summary>What tests of hot reload share: a host that watches its folder, with a clock that goes when it is told to, and what it tells of its plugins.</summary>
public abstract class WatchedPluginTests : LivingPluginTests
{
    private protected ManualTime Time { get; } = new();

    private protected List<PluginChangedEventArgs> Changes { get; } = [];

    private protected (PluginChange Change, Version? Version) Last() => (Changes[^1].Change, Changes[^1].Plugin.Version);

    /// <summary>The file system tells, the folder is quiet for as long as it has to be, and the host looks at it.</summary>
    private protected void Follow()
    {
        Changes.Clear();
        Actor.Until(() => Time.Armed != 0, "the file system has told of a change");
        Time.Advance(new HotReloadOptions().ReloadDelay);
    }

    private protected void SetVersion(int version, string plugin = PluginYard.Good)
    {
        string source = Path.Combine(PluginYard.FixtureFolder(plugin), plugin + ".dll");
        PluginYard.Rewrite(source, Path.Combine(Yard.Folder, plugin, plugin + ".dll"), a => a.Name.Version = new Version(version, 0, 0, 0));
    }

    private protected DmaBufIoHost Start(UnloadPolicy policy = UnloadPolicy.Refuse)
    {
        DmaBufIoHost host = StartWithModels(o =>
        {
            o.TimeProvider = Time;
            o.HotReload.EnableHotReload = true;
            o.HotReload.UnloadPolicy = policy;
        });
        host.Plugins.PluginChanged += (_, change) => Changes.Add(change);
        Follow(); // the first look, at what has changed since the start
        Assert.Empty(Changes);
        return host;
    }
}
