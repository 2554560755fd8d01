using System.CommandLine;
using DmaBufIo.Cli.Output;
using DmaBufIo.Hosting;
using DmaBufIo.Plugins;

namespace DmaBufIo.Cli.Commands;

/// <summary><c>plugins</c>: what was loaded, from where, or why not.</summary>
internal static class PluginsCommand
{
    internal static Command Create()
    {
        var command = new Command("plugins", "Lists the plugins: version, kinds, words, options, folder, or why one was refused");
        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction((parsed, _) => CommandGuard.RunAsync(common.Read(parsed).Json, () =>
        {
            CommonSettings settings = common.Read(parsed);
            return CommandHost.RunAsync(settings, (host, _, _) => Run(settings, host));
        }));
        return command;
    }

    private static int Run(CommonSettings settings, DmaBufIoHost host)
    {
        var listing = new PluginListing([.. host.Plugins.All.Select(PluginLine.From)]);
        if (settings.Json)
        {
            CommandOutput.Json(listing);
            return CommandOutput.Success;
        }

        foreach (PluginLine plugin in listing.Plugins)
        {
            CommandOutput.Data($"{plugin.Name} {plugin.Version ?? "-"}: {plugin.State}, {plugin.Folder ?? "built in"}");
            if (plugin.Reason is not null)
            {
                CommandOutput.Data($"  refused: {plugin.Reason}");
                continue;
            }

            CommandOutput.Data($"  {plugin.Description} ({plugin.Kinds}); words: {(plugin.Words.Count == 0 ? "none" : string.Join(", ", plugin.Words))}");
            foreach (PluginOption option in plugin.Options)
                CommandOutput.Data($"  {option.Name}={option.Values} (default {option.Default}): {option.Description}");
        }

        return CommandOutput.Success;
    }
}

/// <summary>What <c>plugins --json</c> prints.</summary>
internal sealed record PluginListing(IReadOnlyList<PluginLine> Plugins);

/// <summary>One plugin.</summary>
internal sealed record PluginLine(
    string Name,
    string? Version,
    string State,
    string? Folder,
    string Description,
    string Kinds,
    IReadOnlyList<string> Words,
    IReadOnlyList<PluginOption> Options,
    string? Reason)
{
    internal static PluginLine From(PluginStatus status) => new(
        status.Name, status.Version?.ToString(), status.State.ToString(), status.Folder, status.Description, status.Kinds.ToString(), status.Words, status.Options, status.Reason);
}
