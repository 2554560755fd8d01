using System.Runtime.InteropServices;
using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace FileToDisk;

/// <summary>Copies once at start, and again after each SIGHUP, with the plugins as their folder holds them then.</summary>
internal sealed partial class CopyService(DmaBufIoHost host, CopyJob job, ILogger<CopyService> logger) : BackgroundService
{
    private readonly SemaphoreSlim _reload = new(0);

    public override void Dispose()
    {
        base.Dispose();
        _reload.Dispose();
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var hangup = PosixSignalRegistration.Create(PosixSignal.SIGHUP, signal =>
        {
            signal.Cancel = true; // the process lives on
            _reload.Release();
        });
        while (true)
        {
            await CopyAsync(stoppingToken);
            await _reload.WaitAsync(stoppingToken);
            ReloadPlugins();
        }
    }

    private async Task CopyAsync(CancellationToken stoppingToken)
    {
        try
        {
            Copied(await job.RunAsync(stoppingToken));
        }
        catch (Exception e) when (e is DmaBufIoException or IOException or UnauthorizedAccessException)
        {
            NotCopied(e.Message);
        }
    }

    // Devices and buffers are closed between two copies, so nothing keeps a plugin.
    private void ReloadPlugins()
    {
        foreach (string folder in Directory.GetDirectories(host.Options.PluginFolder))
        {
            try
            {
                PluginStatus? loaded = host.Plugins.All.FirstOrDefault(s => s.Folder == Path.GetFullPath(folder) && s.State == PluginState.Loaded);
                _ = loaded is null ? host.Plugins.Load(folder) : host.Plugins.Reload(loaded.Name);
            }
            catch (DmaBufIoException e)
            {
                NotCopied(e.Message);
            }
        }
    }

    [LoggerMessage(1, LogLevel.Information, "Copied {Bytes} bytes.")]
    private partial void Copied(long bytes);

    [LoggerMessage(2, LogLevel.Error, "Not copied: {Reason}")]
    private partial void NotCopied(string reason);
}
