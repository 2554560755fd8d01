namespace DmaBufIo.Hosting;

/// <summary>A plugin that was unloaded and loaded again.</summary>
/// <param name="Unloaded">The old one, with what was closed for it.</param>
/// <param name="Status">The new one: loaded, or refused with the reason.</param>
public sealed record PluginReload(UnloadedPlugin Unloaded, PluginStatus Status);
