using Microsoft.Extensions.Hosting;

namespace DmaBufIo.Hosting;

/// <summary>
/// Starts and stops the framework with the application. Services that are registered later stop earlier, while their devices still work.
/// </summary>
internal sealed class DmaBufIoHostedService(DmaBufIoHost host) : IHostedService
{
    public Task StartAsync(CancellationToken cancellationToken)
    {
        host.Start();
        return Task.CompletedTask;
    }

    // Closing waits for requests in flight; the application's shutdown timeout bounds how long it waits with us.
    public Task StopAsync(CancellationToken cancellationToken) =>
        Task.Run(host.CloseAll, CancellationToken.None).WaitAsync(cancellationToken);
}
