namespace DmaBufIo.ContractTests;

/// <summary>Where the build has put the plugins under test.</summary>
public static class PluginFolders
{
    /// <summary>The folder of a plugin that the test project names: <c>&lt;PluginUnderTest Include="../My.Driver/My.Driver.csproj" /&gt;</c>.</summary>
    /// <param name="name">The name of its project, which is that of its entry assembly.</param>
    /// <returns>An absolute path.</returns>
    /// <exception cref="DirectoryNotFoundException">There is no such folder; the message says what to add to the project.</exception>
    public static string Of(string name)
    {
        string all = Path.Combine(AppContext.BaseDirectory, "plugins");
        string folder = Path.Combine(all, name);
        if (Directory.Exists(folder))
            return folder;
        string[] there = Directory.Exists(all) ? [.. Directory.GetDirectories(all).Select(static d => Path.GetFileName(d)).Order(StringComparer.Ordinal)] : [];
        throw new DirectoryNotFoundException(
            $"There is no folder {folder}; {(there.Length == 0 ? "there are no plugins" : $"there are {string.Join(", ", there)}")}. Name the plugin in the test project: <PluginUnderTest Include=\"../{name}/{name}.csproj\" />.");
    }
}
