using DmaBufIo.Hosting;

namespace DmaBufIo.ContractTests;

/// <summary>What every contract asks of an author: where the plugin is. Implemented once per plugin, beside one of the fixtures that derive from it.</summary>
public interface IPluginFixture
{
    /// <summary>
    /// The plugin's own folder, laid out as hosts load it (<c>NAME/NAME.dll</c>): <see cref="PluginFolders.Of"/> for a plugin that the test project names as <c>PluginUnderTest</c>.
    /// Null for one that <see cref="Configure"/> builds in.
    /// </summary>
    string? PluginFolder { get; }

    /// <summary>Folders of other plugins that this one stands on: a set's members need their drivers. Loaded before it.</summary>
    IReadOnlyList<string> OtherPluginFolders => [];

    /// <summary>The plugin's own configuration, by key: its section of the host's.</summary>
    IReadOnlyDictionary<string, string?> Settings => new Dictionary<string, string?>();

    /// <summary>How long facts wait for what should come at once, before they give up; null for 30 s, or what the environment's DMABUFIO_CONTRACT_LIMIT says in seconds.</summary>
    TimeSpan? Patience => null;

    /// <summary>Changes the host before it starts. The fabric and the models are there already.</summary>
    /// <param name="options">The host's options.</param>
    void Configure(DmaBufIoOptions options)
    {
    }
}
