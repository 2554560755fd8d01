using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Hosting.Loading;
using DmaBufIo.Models;
using DmaBufIo.Tests.SyncTests;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Tests;

/// <summary>The end of a host waits for what others are in the middle of, with a limit, and takes nothing away from code that runs.</summary>
public sealed class EndTests : LivingPluginTests
{
    private const string Waits = "devices that are being closed";

    private readonly ManualTime _time = new();

    [Fact]
    public async Task Stopping_ends_a_drain_without_a_limit_and_the_look_at_the_folder_that_waits_for_it()
    {
        Yard.Add(PluginYard.Held);
        IHost application = Build(static o => o.HotReload.EnableHotReload = true);
        await application.StartAsync(TestContext.Current.CancellationToken);
        var host = application.Services.GetRequiredService<DmaBufIoHost>();
        host.Open("held:a,stuck=on");
        Actor drain = Actor.Start("drain", () => Assert.Equal(
            Errno.EBUSY, Assert.Throws<DmaBufIoException>(() => host.Plugins.Unload("held", UnloadPolicy.Drain, CancellationToken.None)).Errno));
        try
        {
            drain.UntilItWaitsFor("closing of device a");
            Yard.Add(PluginYard.Good);
            Actor.Until(() => _time.Armed != 0, "the file system has told of a change");
            Actor look = Actor.Start("look", () => _time.Advance(new HotReloadOptions().ReloadDelay));
            Actor.Until(() => look.IsBlocked, "the look waits for the drain");

            await Task.Run(() => application.StopAsync(CancellationToken.None), TestContext.Current.CancellationToken)
                .WaitAsync(Actor.Limit, TestContext.Current.CancellationToken);
            drain.Join();
            look.Join();
        }
        finally
        {
            Yard.Close.Set();
        }

        Actor.Until(() => host.Devices.Count == 0, "the device has closed at last");
        application.Dispose();
    }

    [Fact]
    public async Task A_stop_whose_time_is_up_already_succeeds_when_everything_has_closed()
    {
        // The closing ends before, while and after its time is looked at, as it happens.
        for (int i = 0; i < 200; i++)
        {
            using IHost application = Build(static o => o.LoadPluginFolder = false);
            await application.StartAsync(TestContext.Current.CancellationToken);
            IHostedLifecycleService service = application.Services.GetServices<IHostedService>().OfType<IHostedLifecycleService>().Single();
            Task stop = service.StoppedAsync(new CancellationToken(canceled: true));
            await stop.WaitAsync(Actor.Limit, TestContext.Current.CancellationToken);
        }
    }

    [Fact]
    public void Nothing_is_unloaded_under_a_device_that_is_being_opened()
    {
        Yard.Add(PluginYard.Held);
        DmaBufIoHost host = StartWithModels(o => o.TimeProvider = _time);
        Actor opener = Actor.Start("opener", () => Assert.Throws<ObjectDisposedException>(() => host.Open("held:a,slow=on")));
        Actor.Until(() => Yard.Puppets.ContainsKey("a"), "the device is being opened");

        Actor dispose = Actor.Start("dispose", host.Dispose);
        dispose.UntilItWaitsFor($"{Waits} (code of plugin held)");
        Assert.Equal("held", Assert.Single(Own(host)).Name);
        Assert.Throws<ObjectDisposedException>(() => host.Open("held:b"));
        Yard.Close.Set();
        opener.Join();
        dispose.Join();

        Assert.Empty(host.Plugins.All);
        Assert.True(Yard.Puppets["a"].IsRemoved, "the device that came too late was left open");
        Assert.DoesNotContain(Yard.Logs.Lines, static l => l.Event.Id == 4004);
    }

    [Fact]
    public void A_change_of_the_plugins_that_does_not_end_is_left_after_a_while()
    {
        using var entered = new ManualResetEventSlim();
        DmaBufIoHost host = StartWithModels(o =>
        {
            o.TimeProvider = _time;
            o.AssemblyLoader = config =>
            {
                entered.Set();
                Yard.Close.Wait();
                return PluginLoader.Create(config);
            };
        });
        string folder = Yard.Add(PluginYard.Good);
        Actor load = Actor.Start("load", () => host.Plugins.Load(folder));
        Assert.True(entered.Wait(Actor.Limit, TestContext.Current.CancellationToken));

        Actor dispose = Actor.Start("dispose", host.Dispose);
        dispose.UntilItWaitsFor($"{Waits} (a plugin that is being loaded or unloaded)");
        _time.Advance(TimeSpan.FromSeconds(5));
        dispose.Join();

        Assert.Equal(
            "Still closing: a plugin that is being loaded or unloaded. The plugins stay loaded", Yard.Logs.Lines.Last(static l => l.Event.Id == 4004).Text);
        Assert.Throws<ObjectDisposedException>(() => host.Plugins.Load(folder));
        Yard.Close.Set();
        load.Join();
    }

    private IHost Build(Action<DmaBufIoOptions> configure)
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Configuration.AddConfiguration(Yard.Configuration);
        builder.Services.AddSingleton<ILoggerFactory>(Yard.Logs);
        builder.Services.AddDmaBufIo(o =>
        {
            o.PluginFolder = Yard.Folder;
            o.TimeProvider = _time;
            o.UseFabric(Iommu).AddBuiltIn<ModelsPlugin>();
            configure(o);
        });
        return builder.Build();
    }
}
