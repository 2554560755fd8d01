using System.CommandLine;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Cli.Commands;

/// <summary>The options that every command has.</summary>
internal sealed class CommonOptions
{
    private readonly Option<string?> _plugins = new("--plugins") { Description = "The folder that plugins are loaded from" };
    private readonly Option<bool> _json = new("--json") { Description = "Print one JSON object" };
    private readonly Option<bool> _verbose = new("--verbose") { Description = "Show what the framework logs, on standard error" };

    internal static CommonOptions AddTo(Command command)
    {
        var options = new CommonOptions();
        command.Options.Add(options._plugins);
        command.Options.Add(options._json);
        command.Options.Add(options._verbose);
        return options;
    }

    internal CommonSettings Read(ParseResult parsed) =>
        new(parsed.GetValue(_plugins), parsed.GetValue(_json), parsed.GetValue(_verbose), IommuMode.Strict);
}
