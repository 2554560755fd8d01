using System.Collections.Concurrent;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Models;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rings;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Tests.Examples;

/// <summary>The code of docs/hosting.md runs as it is printed.</summary>
public sealed class HostingExampleTests : IDisposable
{
    private readonly PluginYard _yard = new();
    private readonly ModelIommu _iommu = new();

    public void Dispose()
    {
        _yard.Dispose();
        _iommu.Dispose();
    }

    [Fact]
    public async Task The_application_reads_its_device_and_stops()
    {
        _yard.Add(PluginYard.Held);
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Configuration.AddConfiguration(_yard.Configuration);
        builder.Configuration.AddInMemoryCollection([new("Device", "held:a")]);
        builder.Services.AddSingleton<ILoggerFactory>(_yard.Logs);
        AddServices(builder, _yard.Folder);
        using IHost app = builder.Build();
        await app.StartAsync(TestContext.Current.CancellationToken);
        await app.Services.GetServices<IHostedService>().OfType<Reader>().Single().ExecuteTask!;
        await app.StopAsync(TestContext.Current.CancellationToken);
        Assert.Contains("Read 1048576 bytes, the last request ended with Ok", _yard.Logs.Lines.Select(static l => l.Text));
    }

    [Fact]
    public async Task A_request_with_a_time_of_its_own()
    {
        _yard.Add(PluginYard.Held);
        using DmaBufIoHost host = _yard.Start(o => o.UseFabric(_iommu).AddBuiltIn<ModelsPlugin>());
        using OpenedDevice device = host.Open("held:a");
        using ExportedBuffer buffer = host.CreateBuffer("moving", "b0", 1 << 20);
        IoFile file = device.OpenFile();
        using (var ring = new Ring(host.RingOptions with { DriverThread = true }))
        {
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer.Buffer, File = file });
            Assert.True(await ReadInTime(ring, file));
        }

        file.Put();
    }

    [Fact]
    public void Changes_are_told_and_a_plugin_is_drained_with_a_limit()
    {
        _yard.Add(PluginYard.Held);
        using DmaBufIoHost host = _yard.Start(o => o.UseFabric(_iommu).AddBuiltIn<ModelsPlugin>());
        var told = new ConcurrentQueue<string>();
        Listen(host, told.Enqueue);
        host.Open("held:a");
        Assert.Equal("closed: a", Drain(host, "held"));
        Assert.Equal(["held: Draining", "held: Unloaded, closed a"], told);
    }

    private static void AddServices(HostApplicationBuilder builder, string plugins)
    {
        // <example>
        builder.Services.AddDmaBufIo(options =>
        {
            options.PluginFolder = plugins; // when not set: the folder "plugins" beside the application
            options.UseFabric(_ => new ModelIommu(new ModelIommuOptions { Mode = IommuMode.Strict }));
            options.AddBuiltIn<ModelsPlugin>();
            options.HotReload.EnableHotReload = true;
            options.HotReload.UnloadPolicy = UnloadPolicy.Drain;
        });
        builder.Services.AddHostedService<Reader>();
        // </example>
    }

    private static async Task<bool> ReadInTime(Ring ring, IoFile file)
    {
        // <example>
        IoStatus status = await ring.ReadFixedAsync(file, slot: 0, bufferOffset: 0, length: 4096, fileOffset: 0, timeout: TimeSpan.FromSeconds(30));
        if (status.Status == Errno.ETIMEDOUT && status.Bytes == 0)
            return false; // it never reached the device, and not a byte was moved
        // </example>
        return status == new IoStatus(Errno.Ok, 4096);
    }

    private static void Listen(DmaBufIoHost host, Action<string> tell)
    {
        // <example>
        host.Plugins.PluginChanged += (_, change) =>
        {
            // Do not block here, and neither load nor unload: hand it on.
            string closed = change.Unloaded is { ClosedDevices.Count: > 0 } unloaded ? $", closed {string.Join(", ", unloaded.ClosedDevices)}" : "";
            tell($"{change.Plugin.Name}: {change.Change}{closed}");
        };
        // </example>
    }

    private static string Drain(DmaBufIoHost host, string name)
    {
        // <example>
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        try
        {
            UnloadedPlugin unloaded = host.Plugins.Unload(name, UnloadPolicy.Drain, limit.Token);
            return $"closed: {string.Join(", ", unloaded.ClosedDevices)}";
        }
        catch (DmaBufIoException e) when (e.Errno == Errno.EBUSY)
        {
            return e.Problem; // what keeps it: devices, buffers, and the tokens and files that hold them
        }
        // </example>
    }
}
