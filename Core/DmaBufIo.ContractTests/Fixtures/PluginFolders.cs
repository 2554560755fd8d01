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
        string folder = Path.Combine(AppContext.BaseDirectory, "plugins", name);
        return Directory.Exists(folder) ? folder : throw new DirectoryNotFoundException(
            $"There is no folder {folder}. Name the plugin in the test project: <PluginUnderTest Include=\"../{name}/{name}.csproj\" />.");
    }
}
