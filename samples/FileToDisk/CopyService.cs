using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace FileToDisk;

/// <summary>
/// Copies once at start, and again whenever a plugin has come or changed, as long as the host watches their folder (<c>DmaBufIo:HotReload:EnableHotReload</c>); without that the program ends after the one copy. Its exit code tells how
/// the last copy ended: 0 copied, 1 refused or failed, 130 interrupted. What an interrupted or failed copy has written stays on the device: the beginning of the file.
/// </summary>
internal sealed partial class CopyService(DmaBufIoHost host, CopyJob job, IHostApplicationLifetime lifetime, ILogger<CopyService> logger) : BackgroundService
{
    private readonly SemaphoreSlim _changes = new(0);

    public override void Dispose()
    {
        base.Dispose();
        _changes.Dispose();
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        if (!host.Options.HotReload.EnableHotReload)
        {
            // Nobody watches the folder: nothing would come that another copy could wait for.
            await CopyAsync(stoppingToken);
            await EndAsync(stoppingToken);
            return;
        }

        host.Plugins.PluginChanged += OnPluginChanged;
        try
        {
            while (true)
            {
                await CopyAsync(stoppingToken);
                await _changes.WaitAsync(stoppingToken);
            }
        }
        finally
        {
            host.Plugins.PluginChanged -= OnPluginChanged;
        }
    }

    // A plugin is not exchanged under a device: the host waits until the copy has closed what it has opened.
    private void OnPluginChanged(object? sender, PluginChangedEventArgs e)
    {
        if (e.Change is PluginChange.Loaded or PluginChange.Reloaded)
            _changes.Release();
    }

    // Not before the application has started: its start would be what is interrupted.
    private async Task EndAsync(CancellationToken stoppingToken)
    {
        var started = new TaskCompletionSource();
        using (lifetime.ApplicationStarted.Register(started.SetResult))
            await started.Task.WaitAsync(stoppingToken);
        lifetime.StopApplication();
    }

    private async Task CopyAsync(CancellationToken stoppingToken)
    {
        Environment.ExitCode = 1; // until it has succeeded
        try
        {
            Copied(await job.RunAsync(stoppingToken));
            Environment.ExitCode = 0;
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            Interrupted();
            Environment.ExitCode = 130;
        }
        catch (Exception e) when (e is DmaBufIoException or IOException or UnauthorizedAccessException)
        {
            NotCopied(e.Message);
        }
    }

    [LoggerMessage(1, LogLevel.Information, "Copied {Bytes} bytes.")]
    private partial void Copied(long bytes);

    [LoggerMessage(2, LogLevel.Error, "Not copied: {Reason}")]
    private partial void NotCopied(string reason);

    [LoggerMessage(3, LogLevel.Warning, "Interrupted: the device holds the beginning of the file at most.")]
    private partial void Interrupted();
}
