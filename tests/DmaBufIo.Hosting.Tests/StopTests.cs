using System.Diagnostics.Metrics;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Models;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rings;
using DmaBufIo.Tests.SyncTests;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Tests;

/// <summary>An application stops: requests in flight end by themselves as long as there is time, then devices close, then buffers, then plugins.</summary>
public sealed class StopTests : IDisposable
{
    private readonly PluginYard _yard = new();
    private readonly ModelIommu _iommu = new();
    private readonly ManualTime _time = new();

    public void Dispose()
    {
        _yard.Dispose();
        _iommu.Dispose();
    }

    [Fact]
    public async Task Requests_in_flight_end_by_themselves_before_their_device_is_closed()
    {
        using IHost application = Build();
        await application.StartAsync(TestContext.Current.CancellationToken);
        var host = application.Services.GetRequiredService<DmaBufIoHost>();
        using Held held = Hold(host);

        Task stop = application.StopAsync(TestContext.Current.CancellationToken);
        Actor.Until(() => Logged(4002), "the stop waits");
        Assert.Equal((false, 1), (stop.IsCompleted, host.Devices.Count));
        _yard.Puppets["a"].Finish();
        await stop;

        Assert.Equal([Errno.Ok, Errno.Ok, Errno.Ok, Errno.Ok], held.Reap());
        Assert.Empty(host.Devices);
        Assert.Empty(host.Buffers);
        Assert.Equal([4002, 2001, 2011], Events().SkipWhile(static id => id != 4002));
        Assert.Contains("Stopping waits for 4 requests in flight on 1 rings", _yard.Logs.Lines.Select(static l => l.Text));
    }

    [Fact]
    public async Task T11_requests_that_do_not_end_in_the_time_are_ended_once_by_closing_their_device()
    {
        using IHost application = Build();
        await application.StartAsync(TestContext.Current.CancellationToken);
        var host = application.Services.GetRequiredService<DmaBufIoHost>();
        using Held held = Hold(host);

        using var time = new CancellationTokenSource();
        Task stop = application.StopAsync(time.Token);
        Actor.Until(() => Logged(4002), "the stop waits");
        await time.CancelAsync();
        await stop;

        Assert.Equal([Errno.ECANCELED, Errno.ECANCELED, Errno.ECANCELED, Errno.ECANCELED], held.Reap());
        Assert.Equal([4002, 4003, 2001, 2011], Events().SkipWhile(static id => id != 4002));
        Assert.Contains("The time to stop is up with 4 requests in flight on stopped: closing the devices ends them", _yard.Logs.Lines.Select(static l => l.Text));
    }

    [Fact]
    public async Task A_device_that_does_not_close_is_left_after_a_while_and_nothing_is_unloaded_under_it()
    {
        IHost application = Build();
        await application.StartAsync(TestContext.Current.CancellationToken);
        var host = application.Services.GetRequiredService<DmaBufIoHost>();
        host.Open("held:a,stuck=on");

        using var time = new CancellationTokenSource();
        Task stop = application.StopAsync(time.Token);
        await time.CancelAsync();
        Actor.Until(() => _time.Armed != 0, "the stop gives the device some more time");
        Assert.False(stop.IsCompleted);
        _time.Advance(TimeSpan.FromSeconds(5));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => stop);
        Assert.Equal("Still closing: a. The plugins stay loaded", _yard.Logs.Lines.Last(static l => l.Event.Id == 4004).Text);

        Actor dispose = Actor.Start("dispose", application.Dispose);
        dispose.UntilItWaitsFor("devices that are being closed (a)");
        _time.Advance(TimeSpan.FromSeconds(5));
        dispose.Join();
        Assert.Equal(2, _yard.Logs.Lines.Count(static l => l.Event.Id == 4004));
        Assert.Contains(host.Plugins.All, static p => p is { Name: "held", State: PluginState.Loaded });
        _yard.Close.Set();
        Actor.Until(() => host.Devices.Count == 0, "the device has closed at last");
    }

    [Fact]
    public async Task Services_have_devices_for_as_long_as_they_run_in_whatever_order_they_were_registered()
    {
        var seen = new List<string>();
        using IHost application = Build(before: s => s.AddHostedService(p => new Service("before", p.GetRequiredService<DmaBufIoHost>(), seen)), after: s =>
            s.AddSingleton<IHostedService>(p => new Service("after", p.GetRequiredService<DmaBufIoHost>(), seen)));
        await application.StartAsync(TestContext.Current.CancellationToken);
        await application.StopAsync(TestContext.Current.CancellationToken);
        Assert.Equal(["before opens", "after opens", "after reads", "before reads"], seen);
        Assert.Empty(application.Services.GetRequiredService<DmaBufIoHost>().Devices);
    }

    [Fact]
    public async Task The_hosts_figures_are_observed_and_count_on_after_a_ring_is_closed()
    {
        using IHost application = Build();
        await application.StartAsync(TestContext.Current.CancellationToken);
        var host = application.Services.GetRequiredService<DmaBufIoHost>();
        var meters = application.Services.GetRequiredService<IMeterFactory>();
        using (Held held = Hold(host))
        {
            Dictionary<string, long> during = Observe(meters);
            Assert.Equal((4, 4, 0, 0), (during["dmabufio.requests.submitted"], during["dmabufio.requests.in_flight"], during["dmabufio.requests.completed"], during["dmabufio.io"]));
            Assert.Equal((1, 1, 1, 2), (during["dmabufio.rings"], during["dmabufio.devices"], during["dmabufio.buffers"], during["dmabufio.plugins"]));
            _yard.Puppets["a"].Finish();
            held.Reap();
        }

        Dictionary<string, long> after = Observe(meters);
        Assert.Equal((4, 0, 4, 4 * 512), (after["dmabufio.requests.submitted"], after["dmabufio.requests.in_flight"], after["dmabufio.requests.completed"], after["dmabufio.io"]));
        Assert.Equal(0, after["dmabufio.rings"]);
        Assert.True(after["dmabufio.process.tokens"] > 0 && after["dmabufio.process.maps"] > 0);
        await application.StopAsync(TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task Times_and_reloading_come_from_the_configuration_too()
    {
        using IHost application = Build(settings:
        [
            new("DmaBufIo:RequestTimeout", "00:00:05"),
            new("DmaBufIo:HotReload:EnableHotReload", "true"),
            new("DmaBufIo:HotReload:ReloadDelay", "00:00:01"),
            new("DmaBufIo:HotReload:UnloadPolicy", "drain"),
            new("DmaBufIo:HotReload:DrainTimeout", "Infinite"),
        ]);
        await application.StartAsync(TestContext.Current.CancellationToken);
        var host = application.Services.GetRequiredService<DmaBufIoHost>();
        HotReloadOptions reload = host.Options.HotReload;
        Assert.Equal(
            (true, TimeSpan.FromSeconds(1), UnloadPolicy.Drain, Timeout.InfiniteTimeSpan),
            (reload.EnableHotReload, reload.ReloadDelay, reload.UnloadPolicy, reload.DrainTimeout));
        Assert.Equal((TimeSpan.FromSeconds(5), _time), (host.RingOptions.RequestTimeout, host.RingOptions.TimeProvider));
        Assert.True(Logged(1007));
        await application.StopAsync(TestContext.Current.CancellationToken);
    }

    [Theory]
    [InlineData("RequestTimeout", "5s")]
    [InlineData("RequestTimeout", "30")]
    [InlineData("HotReload:DrainTimeout", "10")]
    [InlineData("HotReload:EnableHotReaload", "true")]
    [InlineData("RequestTimeuot", "00:00:05")]
    [InlineData("HotReload:ReloadDelay", "")]
    [InlineData("HotReload:UnloadPolicy", "kill")]
    public async Task A_wrong_value_of_them_fails_the_start(string key, string value)
    {
        using IHost application = Build(settings: [new($"DmaBufIo:{key}", value)]);
        var error = await Assert.ThrowsAsync<DmaBufIoException>(() => application.StartAsync(TestContext.Current.CancellationToken));
        Assert.Contains($"DmaBufIo:{key}", error.Message);
    }

    [Fact]
    public void Options_that_contradict_each_other_are_refused_before_anything_starts()
    {
        var error = Assert.Throws<DmaBufIoException>(() => _yard.Start(static o =>
        {
            o.RequestTimeout = TimeSpan.Zero;
            o.TimeProvider = null!;
            o.LoadPluginFolder = false;
            o.NonCollectiblePlugins = true;
            o.HotReload.EnableHotReload = true;
            o.HotReload.ReloadDelay = TimeSpan.Zero;
            o.HotReload.DrainTimeout = TimeSpan.Zero;
            o.HotReload.UnloadPolicy = (UnloadPolicy)9;
        }));
        foreach (string part in new[]
        {
            "RequestTimeout is 00:00:00", "TimeProvider is null", "EnableHotReload is true without a plugin folder", "EnableHotReload is true for plugins that are loaded for good",
            "HotReload.ReloadDelay is", "HotReload.DrainTimeout is", "HotReload.UnloadPolicy is 9",
        })
            Assert.Contains(part, error.Problem);
    }

    private static Dictionary<string, long> Observe(IMeterFactory meters)
    {
        var values = new Dictionary<string, long>();
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, l) =>
            {
                if (instrument.Meter.Name == "DmaBufIo" && ReferenceEquals(instrument.Meter.Scope, meters))
                    l.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, _, _) => values.Add(instrument.Name, value));
        listener.SetMeasurementEventCallback<int>((instrument, value, _, _) => values.Add(instrument.Name, value));
        listener.Start();
        listener.RecordObservableInstruments();
        return values;
    }

    private Held Hold(DmaBufIoHost host)
    {
        var held = new Held(host);
        _yard.Puppets["a"].Hold = true;
        held.Submit();
        return held;
    }

    private bool Logged(int id) => _yard.Logs.Lines.Any(l => l.Event.Id == id);

    // Without what the process tells of itself (3xxx): how long a thread waits depends on the machine.
    private IEnumerable<int> Events() =>
        _yard.Logs.Lines.Where(static l => l.Category == "DmaBufIo.Hosting").Select(static l => l.Event.Id).Where(static id => id / 1000 != 3);

    private IHost Build(
        Action<IServiceCollection>? before = null, Action<IServiceCollection>? after = null, IEnumerable<KeyValuePair<string, string?>>? settings = null)
    {
        _yard.Add(PluginYard.Held);
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Configuration.AddConfiguration(_yard.Configuration);
        builder.Configuration.AddInMemoryCollection([new("DmaBufIo:PluginFolder", _yard.Folder), .. settings ?? []]);
        builder.Services.AddSingleton<ILoggerFactory>(_yard.Logs);
        before?.Invoke(builder.Services);
        builder.Services.AddDmaBufIo(o =>
        {
            o.UseFabric(_iommu).AddBuiltIn<ModelsPlugin>();
            o.TimeProvider = _time;
        });
        after?.Invoke(builder.Services);
        return builder.Build();
    }

    private sealed class Service(string name, DmaBufIoHost host, List<string> seen) : IHostedService
    {
        private OpenedDevice? _device;

        public Task StartAsync(CancellationToken cancellationToken)
        {
            _device = host.Open($"held:{name}");
            seen.Add($"{name} opens");
            return Task.CompletedTask;
        }

        public Task StopAsync(CancellationToken cancellationToken)
        {
            Assert.False(_device!.BlockDevice.IsRemoved);
            seen.Add($"{name} reads");
            return Task.CompletedTask;
        }
    }

    /// <summary>A ring of four requests that the device holds, whose owner does not come by while the application stops.</summary>
    private sealed class Held : IDisposable
    {
        private readonly Ring _ring;
        private readonly BlockDeviceFile _file;

        internal Held(DmaBufIoHost host)
        {
            OpenedDevice device = host.Open("held:a");
            ExportedBuffer buffer = host.CreateBuffer("moving", "b0", 1 << 20);
            _file = new BlockDeviceFile(device.BlockDevice);
            _ring = new Ring(host.RingOptions with { Name = "stopped", Entries = 8 });
            _ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer.Buffer, File = _file });
        }

        internal void Submit()
        {
            for (ulong i = 0; i < 4; i++)
                Assert.True(_ring.TryReadFixed(_file, 0, 0, 512, 0, i));
            _ring.Submit(TestContext.Current.CancellationToken);
        }

        internal Errno[] Reap()
        {
            var completions = new RingCompletion[8];
            int count = _ring.Reap(completions, 4, TestContext.Current.CancellationToken);
            return [.. completions.Take(count).Select(static c => c.Status)];
        }

        public void Dispose()
        {
            _ring.Dispose();
            _file.Put();
        }
    }
}
