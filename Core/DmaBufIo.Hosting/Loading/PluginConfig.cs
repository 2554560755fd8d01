namespace DmaBufIo.Hosting.Loading;

/// <summary>How the assemblies of one plugin are loaded.</summary>
/// <param name="MainAssemblyPath">Absolute path of the entry assembly.</param>
public sealed record PluginConfig(string MainAssemblyPath)
{
    /// <summary>
    /// True (the default) for a collectible load context. A call into one costs about 0.7 ns more, so a host that never unloads may choose
    /// false.
    /// </summary>
    public bool IsUnloadable { get; init; } = true;

    /// <summary>
    /// Simple names of further assemblies that plugins take from the host, besides Core, Models, Hosting and Microsoft.Extensions.*.
    /// </summary>
    public IReadOnlyCollection<string> SharedAssemblies { get; init; } = [];

    /// <summary>
    /// Changes the bytes of an assembly before it is loaded, for whoever measures what a plugin does; null for none. Called for each assembly of the plugin's own, which is then loaded without
    /// its symbols: they speak of the code as it was.
    /// </summary>
    public Func<byte[], byte[]>? Rewrite { get; init; }
}
