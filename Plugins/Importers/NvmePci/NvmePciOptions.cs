using System.Globalization;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;

namespace DmaBufIo.Importers.NvmePci;

/// <summary>How the driver treats its controllers.</summary>
public sealed record NvmePciOptions
{
    private static readonly PluginOption[] s_described =
    [
        new("queueDepth", "1 to 65534", "1023", "The most requests in flight on one queue; a controller with shorter queues allows less"),
        new("timeout", "1 to 3600000", "30000", "Milliseconds a command may take before the controller is reset"),
    ];

    /// <summary>The most requests in flight on one queue, 1 to 65,534; a controller with shorter queues allows less.</summary>
    public int QueueDepth { get; init; } = 1023;

    /// <summary>Milliseconds a command may take before the controller is reset (N8), 1 to 3,600,000.</summary>
    public int TimeoutMilliseconds { get; init; } = 30_000;

    /// <summary>The options for listings.</summary>
    internal static IReadOnlyList<PluginOption> Described => s_described;

    /// <summary>Reads the plugin's section of the host's configuration.</summary>
    /// <param name="section">May be empty.</param>
    /// <returns>The options; what is not given has its default.</returns>
    /// <exception cref="DmaBufIoException">An unknown option or a value out of range (<c>EINVAL</c>).</exception>
    public static NvmePciOptions From(IConfiguration section)
    {
        var options = new NvmePciOptions();
        foreach (IConfigurationSection entry in section.GetChildren())
        {
            options = entry.Key switch
            {
                _ when Is(entry, "queueDepth") => options with { QueueDepth = Number(entry) },
                _ when Is(entry, "timeout") => options with { TimeoutMilliseconds = Number(entry) },
                _ => throw Wrong(entry.Key, "there is no such option", "Use queueDepth or timeout"),
            };
        }

        options.Validate();
        return options;
    }

    /// <summary>Throws when a value is out of range.</summary>
    /// <exception cref="DmaBufIoException">A value is out of range (<c>EINVAL</c>).</exception>
    internal void Validate()
    {
        if (QueueDepth is < 1 or > 65534)
            throw Wrong("queueDepth", $"{QueueDepth} is out of range", "Use 1 to 65534");
        if (TimeoutMilliseconds is < 1 or > 3_600_000)
            throw Wrong("timeout", $"{TimeoutMilliseconds} is out of range", "Use 1 to 3600000 milliseconds");
    }

    private static bool Is(IConfigurationSection entry, string name) => entry.Key.Equals(name, StringComparison.OrdinalIgnoreCase);

    private static int Number(IConfigurationSection entry) =>
        int.TryParse(entry.Value, NumberStyles.None, CultureInfo.InvariantCulture, out int value)
            ? value
            : throw Wrong(entry.Key, $"'{entry.Value}' is not a whole number", "Write digits only");

    private static DmaBufIoException Wrong(string option, string problem, string remedy) =>
        NvmeError.Make(Errno.EINVAL, $"option {option}", problem, remedy);
}
