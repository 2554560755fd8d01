using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Fixtures.FaultyExporter;

/// <summary>
/// A correct exporter over memory files that moves its buffers and works on them, by the word <c>faulty</c>; with the setting <c>fault</c> it makes one mistake.
/// </summary>
public sealed class FaultyExporterPlugin : IDmaBufIoPlugin
{
    public PluginInfo Info { get; } = new("faulty-exporter", new Version(1, 0), "Buffers in pieces that move and are worked on", PluginKinds.Exporter)
    {
        Words = ["faulty"],
        Options = [new PluginOption("slow", "milliseconds", "0", "how long jobs take"), new PluginOption("mover", "on|off", "off", "whether a thread of its own moves a buffer")],
    };

    public void Register(IServiceCollection services, IConfiguration options) => services.AddSingleton<IExporterFactory>(_ => new BufferFactory(new Fault(options["fault"])));
}

/// <summary>The mistake that is made; none when the setting is not given.</summary>
internal sealed class Fault(string? name)
{
    /// <summary>When a mistake that blocks for ever gives up, so that it costs one test and not the process.</summary>
    internal static TimeSpan Patience { get; } = TimeSpan.FromSeconds(3);

    internal bool Is(string fault) => name == fault;
}
