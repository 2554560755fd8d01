using DmaBufIo.Hosting;
using DmaBufIo.Plugins;

namespace DmaBufIo.ContractTests;

/// <summary>A fixture in whose hosts there is a plugin of the contract's own besides, anew in each.</summary>
/// <typeparam name="TPlugin">The contract's plugin.</typeparam>
internal sealed class FixtureWith<TPlugin>(IPluginFixture inner) : IPluginFixture
    where TPlugin : IDmaBufIoPlugin, new()
{
    public string? PluginFolder => inner.PluginFolder;

    public IReadOnlyList<string> OtherPluginFolders => inner.OtherPluginFolders;

    public IReadOnlyDictionary<string, string?> Settings => inner.Settings;

    public TimeSpan? Patience => inner.Patience;

    /// <summary>That of the host that was made last: facts run one after another, each in a host of its own.</summary>
    internal TPlugin BuiltIn { get; private set; } = new();

    public void Configure(DmaBufIoOptions options)
    {
        var plugin = new TPlugin();
        BuiltIn = plugin;
        options.AddBuiltIn(() => plugin);
        inner.Configure(options);
    }
}
