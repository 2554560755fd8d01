using System.Globalization;
using DmaBufIo.Errors;
using DmaBufIo.Native;
using DmaBufIo.Plugins;
using Microsoft.Win32.SafeHandles;

namespace DmaBufIo.Cli.Copying;

/// <summary>
/// The two files of a copy. The destination is written under a name of its own beside the real one and takes its place only when it is complete: whatever
/// fails before leaves an existing destination as it was.
/// </summary>
internal sealed class Endpoints : IDisposable
{
    private readonly bool _keepPartial;
    private readonly SafeFileHandle _partial;
    private bool _finished;

    private Endpoints(string source, string destination, string partial, SafeFileHandle handle, long size, bool keepPartial)
    {
        SourcePath = source;
        DestinationPath = destination;
        PartialPath = partial;
        _partial = handle;
        Size = size;
        _keepPartial = keepPartial;
    }

    /// <summary>The source's file.</summary>
    internal string SourcePath { get; }

    /// <summary>The destination's file, symbolic links followed.</summary>
    internal string DestinationPath { get; }

    /// <summary>The file that is written.</summary>
    internal string PartialPath { get; }

    /// <summary>Bytes to copy.</summary>
    internal long Size { get; }

    /// <summary>Checks both files and creates the one that is written, with its final length.</summary>
    /// <param name="source">The source's expression.</param>
    /// <param name="destination">The destination's expression.</param>
    /// <param name="keepPartial">Leave a destination behind that is not complete.</param>
    /// <exception cref="DmaBufIoException">Missing, unreadable, not a regular file, one and the same file, or no space.</exception>
    internal static Endpoints Prepare(DeviceExpression source, DeviceExpression destination, bool keepPartial)
    {
        string from = FileOf(source, "SRC");
        string to = FileOf(destination, "DST");
        FileStatus input = Look("SRC", from) ?? throw Refused(Errno.ENOENT, "SRC", from, "there is no such file", "Check the name");
        CheckReadable(from);
        to = FollowLinks(to);
        FileStatus? output = Look("DST", to);
        if (output?.Identity == input.Identity)
            throw Refused(Errno.EINVAL, "DST", to, $"it is the same file as SRC ({from})", "Name another destination; links to one file count as one");
        string partial = Path.Combine(
            Path.GetDirectoryName(to)!, string.Create(CultureInfo.InvariantCulture, $".{Shorten(Path.GetFileName(to))}.{Environment.ProcessId}-{Random.Shared.Next():x8}.partial"));
        return new Endpoints(from, to, partial, Create(to, partial, input.Size, exists: output is not null), input.Size, keepPartial);
    }

    /// <summary>The copy is complete and flushed: cuts the file to the source's length (a device writes whole blocks) and makes that durable.</summary>
    internal void Complete()
    {
        RandomAccess.SetLength(_partial, Size);
        RandomAccess.FlushToDisk(_partial);
    }

    /// <summary>What was written is right: it takes the destination's place.</summary>
    internal void Publish()
    {
        File.Move(PartialPath, DestinationPath, overwrite: true);
        _finished = true;
    }

    /// <summary>Closes the file; when it did not take the destination's place, removes it, or leaves it there when told so.</summary>
    public void Dispose()
    {
        _partial.Dispose();
        if (_finished)
            return;
        if (_keepPartial)
            File.Move(PartialPath, DestinationPath, overwrite: true);
        else
            File.Delete(PartialPath);
    }

    private static string FileOf(DeviceExpression expression, string which)
    {
        if (expression.Options.TryGetValue("size", out DeviceOption size))
            throw expression.Broken(size.NamePosition, "a copy takes the size from the file", "Leave the option size out");
        return expression is { Word: "nvme", Text: { Length: > 0 } text }
            ? Path.GetFullPath(text)
            : throw expression.Broken(expression.Position, $"{which} must stand on one file", "Give a path or nvme:FILE");
    }

    /// <summary>Looks at a file without opening it: opening a pipe would wait for its other end.</summary>
    private static FileStatus? Look(string which, string path)
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

    private static void CheckReadable(string path)
    {
        try
        {
            File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete).Dispose();
        }
        catch (UnauthorizedAccessException)
        {
            throw Refused(Errno.EACCES, "SRC", path, "it may not be read", "Grant read permission on the file and its folders");
        }
        catch (IOException e)
        {
            throw Refused(Errno.EIO, "SRC", path, e.Message.TrimEnd('.'), "Check the file and its file system");
        }
    }

    private static string FollowLinks(string path)
    {
        try
        {
            var file = new FileInfo(path);
            return file.LinkTarget is null ? path : file.ResolveLinkTarget(returnFinalTarget: true)!.FullName;
        }
        catch (IOException e)
        {
            throw Refused(Errno.ENOENT, "DST", path, $"its symbolic links lead nowhere: {e.Message.TrimEnd('.')}", "Name a file, or mend the link");
        }
    }

    private static SafeFileHandle Create(string destination, string partial, long size, bool exists)
    {
        try
        {
            // Space is taken now: a full disk shows before the first request, not in the middle of the copy.
            SafeFileHandle handle = File.OpenHandle(partial, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete, FileOptions.None, size);
            if (exists && !OperatingSystem.IsWindows())
                File.SetUnixFileMode(handle, File.GetUnixFileMode(destination));
            return handle;
        }
        catch (DirectoryNotFoundException)
        {
            throw Refused(Errno.ENOENT, "DST", destination, "its folder does not exist", "Create the folder first");
        }
        catch (UnauthorizedAccessException)
        {
            throw Refused(Errno.EACCES, "DST", destination, "its folder may not be written", "Grant permission on the folder");
        }
        catch (IOException e)
        {
            // A file that was created and could not get its space is removed by the call itself.
            throw Refused(Errno.ENOSPC, "DST", destination, $"it cannot be created with {size} bytes: {e.Message.TrimEnd('.')}", "Free space, or name a destination on another file system");
        }
    }

    /// <summary>File systems allow 255 bytes; the name of the partial file is longer than the destination's.</summary>
    private static string Shorten(string name) => name.Length <= 60 ? name : name[..60];

    private static DmaBufIoException Refused(Errno errno, string which, string path, string problem, string remedy) =>
        new(errno, "copy", $"{which} {path}", problem, remedy);
}
