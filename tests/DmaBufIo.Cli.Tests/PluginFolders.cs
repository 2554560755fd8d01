namespace DmaBufIo.Cli.Tests;

/// <summary>Plugin folders put together for one test.</summary>
internal static class PluginFolders
{
    /// <summary>Copies the command's own plugins.</summary>
    internal static void CopyTo(string target, string? except = null)
    {
        foreach (string plugin in Directory.EnumerateDirectories(Path.Combine(CommandProcess.Folder, "plugins")))
        {
            if (Path.GetFileName(plugin) != except)
                CopyFolder(plugin, Path.Combine(target, Path.GetFileName(plugin)));
        }
    }

    internal static void CopyFolder(string source, string target)
    {
        foreach (string file in Directory.EnumerateFiles(source, "*", SearchOption.AllDirectories))
        {
            string copy = Path.Combine(target, Path.GetRelativePath(source, file));
            Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(file, copy);
        }
    }
}
