using System.Runtime.InteropServices;
using DmaBufIo.Cli.Output;
using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Models;
using DmaBufIo.Models.Iommu;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Cli.Commands;

/// <summary>Runs a command on a generic host with the framework in it, as any application would.</summary>
internal static class CommandHost
{
    /// <summary>Starts the host, runs the command, stops the host.</summary>
    /// <param name="settings">What all commands have in common.</param>
    /// <param name="command">The command; its token is cancelled by Ctrl-C and by SIGTERM.</param>
    /// <returns>The exit code.</returns>
    internal static async Task<int> RunAsync(CommonSettings settings, Func<DmaBufIoHost, ModelIommu, CancellationToken, int> command)
    {
        var iommu = new ModelIommu(new ModelIommuOptions { Mode = settings.Iommu });
        try
        {
            using IHost host = Build(settings, iommu);
            await StartAsync(host);
            int code;
            try
            {
                var lifetime = host.Services.GetRequiredService<IHostApplicationLifetime>();

                // A closed terminal is a wish to stop like the others, which the generic host handles.
                using PosixSignalRegistration hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, signal =>
                {
                    signal.Cancel = true;
                    lifetime.StopApplication();
                });
                code = command(host.Services.GetRequiredService<DmaBufIoHost>(), iommu, lifetime.ApplicationStopping);
            }
            finally
            {
                await host.StopAsync();
            }

            return code;
        }
        finally
        {
            iommu.Dispose();
        }
    }

    private static async Task StartAsync(IHost host)
    {
        try
        {
            await host.StartAsync();
        }
        catch (DmaBufIoException e) when (e.Subject.StartsWith("plugin folder", StringComparison.Ordinal))
        {
            // The framework speaks of options and configuration; here there is a word for both.
            throw e.With("Build the plugins, and give the folder that holds theirs: --plugins FOLDER");
        }
    }

    private static IHost Build(CommonSettings settings, ModelIommu iommu)
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings { DisableDefaults = true });
        builder.Logging.SetMinimumLevel(settings.Verbose ? LogLevel.Debug : LogLevel.Warning);
        builder.Logging.AddProvider(new StandardErrorLoggerProvider());
        builder.Services.AddDmaBufIo(options =>
        {
            if (settings.PluginFolder is not null)
                options.PluginFolder = settings.PluginFolder;
            options.AddBuiltIn<ModelsPlugin>();
            options.NonCollectiblePlugins = true; // a command ends with its plugins: what unloading costs each call buys nothing
            options.UseFabric(_ => iommu);
        });
        return builder.Build();
    }
}

/// <summary>What all commands have in common.</summary>
internal sealed record CommonSettings(string? PluginFolder, bool Json, bool Verbose, IommuMode Iommu);
