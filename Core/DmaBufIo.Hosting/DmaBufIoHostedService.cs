using Microsoft.Extensions.Hosting;

namespace DmaBufIo.Hosting;

/// <summary>
/// Starts the framework before every service of the application, and stops it after all of them, in whatever order they were registered: services have devices for as long as
/// they run.
/// </summary>
internal sealed class DmaBufIoHostedService(DmaBufIoHost host) : IHostedLifecycleService
{
    public Task StartingAsync(CancellationToken cancellationToken)
    {
        host.Start();
        return Task.CompletedTask;
    }

    // For hosts that know no life cycle; else it was started already.
    public Task StartAsync(CancellationToken cancellationToken) => StartingAsync(cancellationToken);

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => host.StopAsync(cancellationToken);
}
