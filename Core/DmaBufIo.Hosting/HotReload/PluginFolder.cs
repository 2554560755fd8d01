using System.Globalization;
using System.Text;
using DmaBufIo.Errors;
using DmaBufIo.Native;

namespace DmaBufIo.Hosting;

/// <summary>What a plugin's folder looks like, to tell whether it has changed.</summary>
internal static class PluginFolder
{
    /// <summary>Every file below the folder: its name, length, time, and which file it is, so that one that was renamed into place is another.</summary>
    internal static string Describe(string folder)
    {
        var text = new StringBuilder();
        foreach (FileInfo file in new DirectoryInfo(folder).EnumerateFiles("*", SearchOption.AllDirectories).OrderBy(static f => f.FullName, StringComparer.Ordinal))
        {
            Errno status = FileStatus.Of(file.FullName, out FileStatus found);
            text.Append(CultureInfo.InvariantCulture, $"{file.FullName}|{file.Length}|{file.LastWriteTimeUtc.Ticks}|{(status == Errno.Ok ? found.Identity : status)}\n");
        }

        return text.ToString();
    }
}
