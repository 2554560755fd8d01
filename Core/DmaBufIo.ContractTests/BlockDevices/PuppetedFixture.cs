using DmaBufIo.Hosting;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests;

/// <summary>A fixture in whose hosts there are block devices on strings, by the word <c>puppet</c>.</summary>
internal sealed class PuppetedFixture(IPluginFixture inner) : IPluginFixture
{
    public string? PluginFolder => inner.PluginFolder;

    public IReadOnlyList<string> OtherPluginFolders => inner.OtherPluginFolders;

    public IReadOnlyDictionary<string, string?> Settings => inner.Settings;

    /// <summary>The devices of the host that was made last: facts run one after another, each in a host of its own.</summary>
    internal IReadOnlyDictionary<string, PuppetBlockDevice> Puppets { get; private set; } = new Dictionary<string, PuppetBlockDevice>();

    public void Configure(DmaBufIoOptions options)
    {
        var plugin = new PuppetDevicesPlugin();
        Puppets = plugin.Devices;
        options.AddBuiltIn(() => plugin);
        inner.Configure(options);
    }
}
