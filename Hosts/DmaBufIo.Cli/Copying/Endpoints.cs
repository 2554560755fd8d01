using DmaBufIo.Errors;
using DmaBufIo.Native;
using DmaBufIo.Plugins;
using Microsoft.Win32.SafeHandles;

namespace DmaBufIo.Cli.Copying;

/// <summary>
/// The two files of a copy: checks them before anything is opened as a device, creates the destination, cuts it to its length at the end, and
/// removes it when the copy did not get that far.
/// </summary>
internal sealed class Endpoints : IDisposable
{
    private readonly bool _keepPartial;
    private SafeFileHandle? _destination;
    private bool _finished;

    private Endpoints(string source, string destination, long size, bool keepPartial)
    {
        SourcePath = source;
        DestinationPath = destination;
        Size = size;
        _keepPartial = keepPartial;
    }

    /// <summary>The source's file.</summary>
    internal string SourcePath { get; }

    /// <summary>The destination's file.</summary>
    internal string DestinationPath { get; }

    /// <summary>Bytes to copy.</summary>
    internal long Size { get; }

    /// <summary>Checks both files and creates the destination with its final length.</summary>
    /// <param name="source">The source's expression.</param>
    /// <param name="destination">The destination's expression.</param>
    /// <param name="keepPartial">Leave a destination behind that is not complete.</param>
    /// <exception cref="DmaBufIoException">Missing, unreadable, a directory, one and the same file, or no space.</exception>
    internal static Endpoints Prepare(DeviceExpression source, DeviceExpression destination, bool keepPartial)
    {
        string from = FileOf(source, "SRC");
        string to = FileOf(destination, "DST");
        using SafeFileHandle input = OpenSource(from);
        long size = RandomAccess.GetLength(input);
        if (Directory.Exists(to))
            throw Refused(Errno.EISDIR, "DST", to, "it is a directory", "Name a file in it");
        if (File.Exists(to))
            RefuseSameFile(input, from, to);
        var endpoints = new Endpoints(from, to, size, keepPartial);
        try
        {
            endpoints.CreateDestination();
            return endpoints;
        }
        catch
        {
            endpoints.Dispose();
            throw;
        }
    }

    /// <summary>The copy is complete and flushed: cuts the file to the source's length (a device writes whole blocks) and makes that durable.</summary>
    internal void Finish()
    {
        RandomAccess.SetLength(_destination!, Size);
        RandomAccess.FlushToDisk(_destination!);
        _finished = true;
    }

    /// <summary>Closes the destination; removes it when it is not complete.</summary>
    public void Dispose()
    {
        if (_destination is null)
            return;
        _destination.Dispose();
        if (!_finished && !_keepPartial)
            File.Delete(DestinationPath);
    }

    private static string FileOf(DeviceExpression expression, string which) =>
        expression is { Word: "nvme", Text: { Length: > 0 } text }
            ? Path.GetFullPath(text)
            : throw expression.Broken(expression.Position, $"{which} must stand on one file", "Give a path or nvme:FILE");

    private static SafeFileHandle OpenSource(string path)
    {
        if (Directory.Exists(path))
            throw Refused(Errno.EISDIR, "SRC", path, "it is a directory", "Name a file in it");
        try
        {
            return File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw Refused(Errno.ENOENT, "SRC", path, "there is no such file", "Check the name");
        }
        catch (UnauthorizedAccessException)
        {
            throw Refused(Errno.EACCES, "SRC", path, "it may not be read", "Grant read permission on the file and its folders");
        }
        catch (IOException e)
        {
            throw Refused(Errno.EIO, "SRC", path, e.Message.TrimEnd('.'), "Name a regular file");
        }
    }

    private static void RefuseSameFile(SafeFileHandle input, string from, string to)
    {
        try
        {
            using SafeFileHandle output = File.OpenHandle(to, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            if (FileIdentity.Of(input) == FileIdentity.Of(output))
                throw Refused(Errno.EINVAL, "DST", to, $"it is the same file as SRC ({from})", "Name another destination; links to one file count as one");
        }
        catch (UnauthorizedAccessException)
        {
            throw Refused(Errno.EACCES, "DST", to, "it may not be written", "Grant permission on the file and its folder");
        }
    }

    private void CreateDestination()
    {
        try
        {
            // Space is taken now: a full disk shows before the first request, not in the middle of the copy.
            _destination = File.OpenHandle(DestinationPath, FileMode.Create, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete, FileOptions.None, Size);
        }
        catch (DirectoryNotFoundException)
        {
            throw Refused(Errno.ENOENT, "DST", DestinationPath, "its folder does not exist", "Create the folder first");
        }
        catch (UnauthorizedAccessException)
        {
            throw Refused(Errno.EACCES, "DST", DestinationPath, "it may not be written", "Grant permission on the file and its folder");
        }
        catch (IOException e)
        {
            throw Refused(Errno.ENOSPC, "DST", DestinationPath, $"it cannot be created with {Size} bytes: {e.Message.TrimEnd('.')}", "Free space or name a destination on another file system");
        }
    }

    private static DmaBufIoException Refused(Errno errno, string which, string path, string problem, string remedy) =>
        new(errno, "copy", $"{which} {path}", problem, remedy);
}
