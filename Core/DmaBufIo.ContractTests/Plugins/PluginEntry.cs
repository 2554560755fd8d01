using System.Reflection;
using DmaBufIo.Hosting.Loading;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.ContractTests;

/// <summary>The entry class of a plugin by itself, loaded as a host loads it, but not composed: to ask it twice.</summary>
internal sealed class PluginEntry : IDisposable
{
    private readonly IPluginAssemblyLoader _loader;
    private readonly IPluginFixture _fixture;

    private PluginEntry(IPluginAssemblyLoader loader, IPluginFixture fixture, IDmaBufIoPlugin plugin)
    {
        _loader = loader;
        _fixture = fixture;
        Plugin = plugin;
    }

    internal IDmaBufIoPlugin Plugin { get; }

    /// <summary>Loads it.</summary>
    /// <param name="fixture">Has a plugin folder.</param>
    internal static PluginEntry Load(IPluginFixture fixture)
    {
        IPluginAssemblyLoader loader = PluginLoader.Create(new PluginConfig(EntryOf(fixture.PluginFolder!)));
        try
        {
            Type type = loader.LoadDefaultAssembly().GetTypes().Single(static t => t is { IsClass: true, IsAbstract: false, IsVisible: true } && t.IsAssignableTo(typeof(IDmaBufIoPlugin)));
            const BindingFlags Flags = BindingFlags.DoNotWrapExceptions | BindingFlags.Public | BindingFlags.Instance;
            return new PluginEntry(loader, fixture, (IDmaBufIoPlugin)Activator.CreateInstance(type, Flags, null, null, null)!);
        }
        catch
        {
            loader.Dispose();
            throw;
        }
    }

    /// <summary>Lets it register, and tells the types of its services.</summary>
    internal IReadOnlyList<Type> Register()
    {
        IConfiguration options = new ConfigurationBuilder()
            .AddInMemoryCollection(_fixture.Settings.Select(static s => new KeyValuePair<string, string?>(s.Key, s.Value)))
            .Build()
            .GetSection(Plugin.Info.Name);
        var services = new ServiceCollection();
        Plugin.Register(services, options);
        return [.. services.Select(static s => s.ServiceType)];
    }

    public void Dispose()
    {
        (Plugin as IDisposable)?.Dispose();
        _loader.Dispose();
    }

    private static string EntryOf(string folder)
    {
        string named = Path.Combine(folder, Path.GetFileName(Path.TrimEndingDirectorySeparator(folder)) + ".dll");
        return File.Exists(named) ? named : Directory.GetFiles(folder, "*.deps.json").Single().Replace(".deps.json", ".dll", StringComparison.Ordinal);
    }
}
