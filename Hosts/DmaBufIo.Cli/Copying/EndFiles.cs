using DmaBufIo.Errors;
using DmaBufIo.Native;
using DmaBufIo.Plugins;

namespace DmaBufIo.Cli.Copying;

/// <summary>The files that the two ends of a copy stand on.</summary>
internal static class EndFiles
{
    /// <summary>True when the expression is one file, presented as a namespace.</summary>
    internal static bool IsFile(DeviceExpression expression) => expression is { Word: "nvme", Text.Length: > 0, Members.Count: 0 };

    /// <summary>Refuses ends that share a file, also through links.</summary>
    /// <exception cref="DmaBufIoException">They do (<c>EINVAL</c>).</exception>
    internal static void CheckApart(DeviceExpression source, DeviceExpression destination)
    {
        var read = new Dictionary<FileIdentity, string>();
        foreach (string path in PathsOf(source))
        {
            if (Look("SRC", path) is { } status)
                read[status.Identity] = path;
        }

        foreach (string path in PathsOf(destination))
        {
            if (Look("DST", path) is { } status && read.TryGetValue(status.Identity, out string? same))
                throw Refused(Errno.EINVAL, "DST", path, $"it is the same file as SRC ({same})", "Name another destination; links to one file count as one");
        }
    }

    /// <summary>Looks at a file without opening it: opening a pipe would wait for its other end.</summary>
    /// <returns>Null when there is none.</returns>
    internal static FileStatus? Look(string which, string path)
    {
        Errno status = FileStatus.Of(path, out FileStatus found);
        return (status, found.Kind) switch
        {
            (Errno.Ok, FileKind.Regular) => found,
            (Errno.Ok, FileKind.Directory) => throw Refused(Errno.EISDIR, which, path, "it is a directory", "Name a file in it"),
            (Errno.Ok, _) => throw Refused(Errno.EINVAL, which, path, "it is not a regular file", "Name a regular file; devices, pipes and sockets cannot be copied"),
            (Errno.ENOENT, _) => null,
            (Errno.EACCES, _) => throw Refused(Errno.EACCES, which, path, "a folder on the way to it may not be searched", "Grant permission on its folders"),
            _ => throw Refused(status, which, path, "it cannot be looked up", "Check the name"),
        };
    }

    /// <summary>The options of the command apply to every file of an expression, unless it says otherwise.</summary>
    internal static DeviceExpression WithBlock(DeviceExpression expression, int lba) => IsFile(expression)
        ? With(expression, "lba", $"{lba}", replace: false)
        : expression with { Members = [.. expression.Members.Select(m => WithBlock(m, lba))] };

    /// <summary>Adds an option.</summary>
    internal static DeviceExpression With(DeviceExpression expression, string name, string value, bool replace = true)
    {
        var options = new Dictionary<string, DeviceOption>(expression.Options);
        if (replace || !options.ContainsKey(name))
            options[name] = new DeviceOption(value, expression.Position, expression.Position);
        return expression with { Options = options };
    }

    internal static DmaBufIoException Refused(Errno errno, string which, string path, string problem, string remedy) =>
        new(errno, "copy", $"{which} {path}", problem, remedy);

    private static IEnumerable<string> PathsOf(DeviceExpression expression) => IsFile(expression)
        ? [Path.GetFullPath(expression.Text!)]
        : expression.Members.SelectMany(PathsOf);
}
