using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace DmaBufIo.Tests;

public sealed class HostTests : IDisposable
{
    private readonly PluginYard _yard = new();

    public void Dispose() => _yard.Dispose();

    [Fact]
    public async Task On_the_generic_host_plugins_load_at_start_and_devices_close_at_stop()
    {
        _yard.Add(PluginYard.Good);
        using IHost application = Build(null);
        var host = application.Services.GetRequiredService<DmaBufIoHost>();
        Assert.Throws<InvalidOperationException>(() => host.Open("fake:a"));

        await application.StartAsync(TestContext.Current.CancellationToken);
        Assert.Equal("good", Assert.Single(host.Plugins.All).Name);
        host.CreateBuffer("plain", "b0", 4096);
        host.Open("fake:a");
        host.Open("fake:b");
        _yard.Journal.Clear();
        await application.StopAsync(TestContext.Current.CancellationToken);

        Assert.Equal(["remove nvme1", "dispose function b", "remove nvme0", "dispose function a", "free b0"], _yard.Journal);
        application.Dispose();
        Assert.Equal("scope disposed", _yard.Journal.Last());
        int[] events = [.. _yard.Logs.Lines.Where(static l => l.Category == "DmaBufIo.Hosting").Select(static l => l.Event.Id)];
        Assert.Equal([1000, 4000, 2010, 2000, 2000, 2001, 2001, 2011, 4001], events);
    }

    [Fact]
    public async Task Configuration_is_applied_first_and_code_after_it()
    {
        using IHost application = Build(
            static o => o.Invalidation = InvalidationDesign.Draining,
            ("DmaBufIo:Iommu", "lazy"),
            ("DmaBufIo:Invalidation", "FENCED"),
            ("DmaBufIo:NonCollectiblePlugins", "true"),
            ("DmaBufIo:SharedAssemblies:0", "Contoso.Contracts"));

        await application.StartAsync(TestContext.Current.CancellationToken);

        DmaBufIoOptions options = application.Services.GetRequiredService<DmaBufIoHost>().Options;
        Assert.Equal(IommuPolicy.Lazy, options.Iommu);
        Assert.Equal(InvalidationDesign.Draining, options.Invalidation);
        Assert.True(options.NonCollectiblePlugins);
        Assert.Equal(["Contoso.Contracts"], options.SharedAssemblies);
        Assert.Equal(_yard.Folder, options.PluginFolder);
    }

    [Theory]
    [InlineData("Iommu", "loose", "strict, lazy, passthrough")]
    [InlineData("Iommu", "1", "strict, lazy, passthrough")]
    [InlineData("Invalidation", "", "draining, fenced")]
    [InlineData("TransferPolicy", "bounce", "direct, allowbounce")]
    [InlineData("NonCollectiblePlugins", "yes", "true, false")]
    public async Task A_wrong_value_in_the_configuration_fails_the_start_and_lists_the_right_ones(string key, string value, string known)
    {
        using IHost application = Build(null, ($"DmaBufIo:{key}", value));

        var error = await Assert.ThrowsAsync<DmaBufIoException>(() => application.StartAsync(TestContext.Current.CancellationToken));

        Assert.Contains($"DmaBufIo:{key}", error.Message);
        Assert.Contains(known, error.Remedy);
    }

    [Fact]
    public async Task Wrong_options_fail_the_start()
    {
        using IHost application = Build(static o =>
        {
            o.PluginFolder = " ";
            o.Iommu = (IommuPolicy)9;
            o.TransferPolicy = (TransferPolicy)9;
            o.SharedAssemblies.Add("Contoso.dll");
        });

        var error = await Assert.ThrowsAsync<OptionsValidationException>(() => application.StartAsync(TestContext.Current.CancellationToken));

        Assert.Equal(4, error.Failures.Count());
    }

    [Fact]
    public void Wrong_options_fail_without_the_generic_host_too()
    {
        var error = Assert.Throws<DmaBufIoException>(() => _yard.Start(static o => o.Invalidation = (InvalidationDesign)9));

        Assert.Equal(Errno.EINVAL, error.Errno);
        Assert.Contains("Draining, Fenced", error.Problem);
    }

    [Fact]
    public async Task A_missing_plugin_folder_fails_the_start()
    {
        using IHost application = Build(null, ("DmaBufIo:PluginFolder", Path.Combine(_yard.Folder, "nowhere")));

        var error = await Assert.ThrowsAsync<DmaBufIoException>(() => application.StartAsync(TestContext.Current.CancellationToken));

        Assert.Equal(Errno.ENOENT, error.Errno);
    }

    [Fact]
    public void The_invalidation_design_reaches_the_tokens()
    {
        using DmaBufIoHost host = _yard.Start(static o => o.Invalidation = InvalidationDesign.Fenced);

        Assert.Equal(TokenOptions.Default with { Design = InvalidationDesign.Fenced }, host.TokenOptions);
    }

    [Fact]
    public async Task The_transfer_policy_reaches_the_rings_from_code_and_from_the_configuration()
    {
        using (DmaBufIoHost host = _yard.Start(static o => o.Invalidation = InvalidationDesign.Fenced))
        {
            Assert.Equal(TransferPolicy.Direct, host.RingOptions.TransferPolicy);
            Assert.Equal(host.TokenOptions, host.RingOptions.Tokens);
        }

        using IHost application = Build(static o => o.LoadPluginFolder = false, ("DmaBufIo:TransferPolicy", "AllowBounce"));
        await application.StartAsync(TestContext.Current.CancellationToken);
        Assert.Equal(TransferPolicy.AllowBounce, application.Services.GetRequiredService<DmaBufIoHost>().RingOptions.TransferPolicy);
        await application.StopAsync(TestContext.Current.CancellationToken);
    }

    [Fact]
    public void A_fabric_that_the_host_made_ends_with_it_and_one_that_it_was_given_does_not()
    {
        var given = new IdleFabric();
        using (DmaBufIoHost host = _yard.Start(o => o.UseFabric(given)))
            Assert.Same(given, host.Fabric);
        Assert.False(given.IsDisposed);

        IdleFabric? made = null;
        using (DmaBufIoHost host = _yard.Start(o => o.UseFabric((services, options) =>
        {
            Assert.Same(o, options);
            Assert.Same(_yard.Logs, services.GetRequiredService<ILoggerFactory>());
            return made = new IdleFabric();
        })))
        {
            Assert.Same(made, host.Fabric);
        }

        Assert.True(made!.IsDisposed);
    }

    [Fact]
    public void A_built_in_plugin_goes_the_way_of_the_others_and_stays()
    {
        using DmaBufIoHost host = _yard.Start(static o => o.AddBuiltIn<BuiltInPlugin>().LoadPluginFolder = false);

        PluginStatus status = Assert.Single(host.Plugins.All);
        Assert.Equal(("built-in", PluginState.Loaded, true, false), (status.Name, status.State, status.IsBuiltIn, status.IsUnloadable));
        Assert.Equal(Errno.EPERM, Assert.Throws<DmaBufIoException>(() => host.Plugins.Unload("built-in")).Errno);
        Assert.Equal(Errno.EPERM, Assert.Throws<DmaBufIoException>(() => host.Plugins.Reload("built-in")).Errno);
    }

    [Fact]
    public void A_built_in_plugin_that_goes_wrong_is_refused_like_any_other()
    {
        using DmaBufIoHost host = _yard.Start(static o => o.AddBuiltIn<BuiltInPlugin>(static () => throw new InvalidOperationException("it is broken")));

        PluginStatus status = Assert.Single(host.Plugins.All);
        Assert.Equal(PluginState.Refused, status.State);
        Assert.Contains("it is broken", status.Reason);
    }

    [Fact]
    public void A_function_of_one_plugin_with_the_driver_of_another_keeps_both()
    {
        _yard.Add(PluginYard.Good);
        using DmaBufIoHost host = _yard.Start(static o => o.AddBuiltIn<BuiltInPlugin>());
        using OpenedDevice device = host.Open($"fake:a,vendor={0x4321}");

        Assert.Equal("any-driver", device.Root.DriverName);
        Assert.Equal(["good", "built-in"], device.Root.PluginNames);
        Assert.Equal(
            "1 device and 0 buffers made by it are alive",
            Assert.Throws<DmaBufIoException>(() => host.Plugins.Unload("good")).Problem);
    }

    [Fact]
    public void Of_two_drivers_that_match_the_one_loaded_first_is_taken_and_the_other_is_logged()
    {
        _yard.Add(PluginYard.Good);
        var settings = new ConfigurationBuilder().AddInMemoryCollection([new("DmaBufIo:Plugins:built-in:claims", "everything")]).Build();
        var options = new DmaBufIoOptions { PluginFolder = _yard.Folder };
        options.AddBuiltIn<BuiltInPlugin>();
        using DmaBufIoHost host = DmaBufIoHost.Create(options, _yard.Logs, settings);
        using OpenedDevice device = host.Open("fake:a");

        Assert.Equal("any-driver", device.Root.DriverName);
        Assert.Contains(_yard.Logs.Lines, static l => l.Event.Id == 2002 && l.Text.Contains("fake-driver", StringComparison.Ordinal));
    }

    [Fact]
    public void A_driver_fault_is_logged_as_long_as_the_host_runs()
    {
        using (DmaBufIoHost host = _yard.Start())
            DmaBufIoDiagnostics.Report(new DriverFault("Unmap of a map", new InvalidOperationException("it is broken")));
        DmaBufIoDiagnostics.Report(new DriverFault("Unmap after the end", new InvalidOperationException("it is broken")));

        Assert.Equal(
            "A driver's callback threw: Unmap of a map [it is broken]",
            Assert.Single(_yard.Logs.Lines, static l => l.Event.Id == 3001).Text);
    }

    [Fact]
    public void A_long_wait_is_logged_while_it_lasts()
    {
        using DmaBufIoHost host = _yard.Start();
        TimeSpan before = DmaBufIoDiagnostics.WaitThreshold;
        DmaBufIoDiagnostics.WaitThreshold = TimeSpan.FromMilliseconds(1);
        try
        {
            var reservation = new ReservationObject("contended");
            CancellationToken cancelled = TestContext.Current.CancellationToken;
            Thread waiter;
            using (reservation.Lock(null, cancelled))
            {
                waiter = new Thread(() => reservation.Lock(null, cancelled).Dispose()) { Name = "waiter", IsBackground = true };
                waiter.Start();

                // The threshold is the process's: pool threads that wait for something else are logged too, perhaps first.
                Actor.Until(
                    () => _yard.Logs.Lines.Any(static l => l.Event.Id == 3000 && l.Text.Contains("contended", StringComparison.Ordinal)),
                    "the long wait is logged while it lasts");
            }

            Assert.True(waiter.Join(TimeSpan.FromSeconds(30)));
        }
        finally
        {
            DmaBufIoDiagnostics.WaitThreshold = before;
        }
    }

    private IHost Build(Action<DmaBufIoOptions>? configure, params (string Key, string Value)[] settings)
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Configuration.AddConfiguration(_yard.Configuration);
        builder.Configuration.AddInMemoryCollection([new("DmaBufIo:PluginFolder", _yard.Folder)]);
        builder.Configuration.AddInMemoryCollection([.. settings.Select(static s => new KeyValuePair<string, string?>(s.Key, s.Value))]);
        builder.Services.AddSingleton<ILoggerFactory>(_yard.Logs);
        builder.Services.AddDmaBufIo(configure);
        return builder.Build();
    }
}
