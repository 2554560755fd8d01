using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace FileToDisk;

/// <summary>Copies once at start, and again whenever a plugin has come or changed: the host watches their folder. The program's exit code tells how the last copy ended.</summary>
internal sealed partial class CopyService(DmaBufIoHost host, CopyJob job, ILogger<CopyService> logger) : BackgroundService
{
    private readonly SemaphoreSlim _changes = new(0);

    public override void Dispose()
    {
        base.Dispose();
        _changes.Dispose();
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
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

    private async Task CopyAsync(CancellationToken stoppingToken)
    {
        try
        {
            Copied(await job.RunAsync(stoppingToken));
            Environment.ExitCode = 0;
        }
        catch (Exception e) when (e is DmaBufIoException or IOException or UnauthorizedAccessException)
        {
            NotCopied(e.Message);
            Environment.ExitCode = 1;
        }
    }

    [LoggerMessage(1, LogLevel.Information, "Copied {Bytes} bytes.")]
    private partial void Copied(long bytes);

    [LoggerMessage(2, LogLevel.Error, "Not copied: {Reason}")]
    private partial void NotCopied(string reason);
}
