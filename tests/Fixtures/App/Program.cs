using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Fixtures.App;
using DmaBufIo.Hosting;
using DmaBufIo.Models;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rings;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

// An application as people write them: services of its own around the framework, and nothing special for its end. The first argument says what happens to the requests that are in flight
// when it is told to stop: the device finishes them, or it does not.
HostApplicationBuilder builder = Host.CreateApplicationBuilder();
builder.Logging.ClearProviders();
builder.Logging.AddSimpleConsole(static o => o.SingleLine = true);
builder.Services.Configure<HostOptions>(static o => o.ShutdownTimeout = TimeSpan.FromSeconds(2));
builder.Services.AddSingleton(new Ending(args[0] == "finish"));
builder.Services.AddHostedService<Worker>(); // before the framework: the order does not matter
builder.Services.AddDmaBufIo(static options =>
{
    options.LoadPluginFolder = false;
    options.UseFabric(static _ => new ModelIommu(new ModelIommuOptions()));
    options.AddBuiltIn<ModelsPlugin>();
    options.AddBuiltIn<PuppetPlugin>();
});
using IHost app = builder.Build();
await app.RunAsync();
await Worker.Told;
Console.WriteLine("ended");

namespace DmaBufIo.Fixtures.App
{
    internal sealed record Ending(bool Finishes);

    internal sealed class Worker(DmaBufIoHost host, Ending ending, IHostApplicationLifetime lifetime) : BackgroundService
    {
        internal static Task Told { get; private set; } = Task.CompletedTask;

        protected override async Task ExecuteAsync(CancellationToken stoppingToken)
        {
            OpenedDevice device = host.Open("puppet:disk");
            ExportedBuffer buffer = host.CreateBuffer("moving", "b0", 1 << 20);
            var file = new BlockDeviceFile(device.BlockDevice);
            var ring = new Ring(host.RingOptions with { Name = "work", DriverThread = true });
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer.Buffer, File = file });
            PuppetDisk.Last!.Hold = true;
            Task<IoStatus>[] all = [.. Enumerable.Range(0, 4).Select(i => ring.ReadFixedAsync(file, 0, i * 4096, 4096, i * 4096, CancellationToken.None).AsTask())];
            Told = Report(all);
            while (PuppetDisk.Last!.Held != 4)
                await Task.Yield();
            if (ending.Finishes)
            {
                // In the middle of the host's stop: when it waits for the requests.
                lifetime.ApplicationStopping.Register(static () => new Thread(static () =>
                {
                    while (!DmaBufIoDiagnostics.Snapshot().Waits.Any(static w => w.WaitsFor.StartsWith("rings that come to rest", StringComparison.Ordinal)))
                        Thread.Yield();
                    PuppetDisk.Last!.Hold = false;
                    PuppetDisk.Last!.Finish();
                }).Start());
            }

            Console.WriteLine("running");
            await Task.Delay(Timeout.Infinite, stoppingToken).ContinueWith(static _ => { }, TaskScheduler.Default);
        }

        private static async Task Report(Task<IoStatus>[] all)
        {
            foreach (Task<IoStatus> task in all)
                Console.WriteLine($"request {(await task).Status switch { Errno.Ok => "ok", var status => status.ToString() }}");
        }
    }
}
