using System.Globalization;
using DmaBufIo.Errors;
using DmaBufIo.Native;
using DmaBufIo.Plugins;
using Microsoft.Win32.SafeHandles;

namespace DmaBufIo.Cli.Copying;

/// <summary>
/// One file as the destination. It is written under a name of its own beside the real one and takes its place only when it is complete: whatever fails before leaves an existing
/// destination as it was.
/// </summary>
internal sealed class FileDestination : ICopyDestination
{
    private readonly string _path;
    private readonly string _partialPath;
    private readonly SafeFileHandle _partial;
    private readonly long _size;
    private readonly bool _keepPartial;
    private bool _finished;

    /// <summary>Creates the file that is written, with its final length.</summary>
    /// <param name="expression">The destination.</param>
    /// <param name="size">Bytes.</param>
    /// <param name="lba">The logical block, unless the expression says otherwise.</param>
    /// <param name="keepPartial">Leave a destination behind that is not complete.</param>
    /// <exception cref="DmaBufIoException">Not a regular file, no folder, no permission, or no space.</exception>
    internal FileDestination(DeviceExpression expression, long size, int lba, bool keepPartial)
    {
        if (expression.Options.TryGetValue("size", out DeviceOption given))
            throw expression.Broken(given.NamePosition, "a copy takes the size from the source", "Leave the option size out");
        _path = FollowLinks(Path.GetFullPath(expression.Text!));
        _size = size;
        _keepPartial = keepPartial;
        bool exists = EndFiles.Look("DST", _path) is not null;
        _partialPath = Path.Combine(
            Path.GetDirectoryName(_path)!, string.Create(CultureInfo.InvariantCulture, $".{Shorten(Path.GetFileName(_path))}.{Environment.ProcessId}-{Random.Shared.Next():x8}.partial"));
        _partial = Create(_path, _partialPath, size, exists);
        Expression = EndFiles.With(EndFiles.WithBlock(expression with { Text = _partialPath }, lba), "size", $"{size}");
    }

    /// <inheritdoc/>
    public DeviceExpression Expression { get; }

    /// <inheritdoc/>
    public string Label => Path.GetFileName(_path);

    /// <inheritdoc/>
    public bool IsInPlace => false;

    /// <inheritdoc/>
    public void Opened()
    {
    }

    /// <summary>Cuts the file to the source's length (a device writes whole blocks) and makes that durable.</summary>
    public void Complete()
    {
        RandomAccess.SetLength(_partial, _size);
        RandomAccess.FlushToDisk(_partial);
    }

    /// <inheritdoc/>
    public string Hash(CancellationToken cancellationToken) => ContentHash.OfFile(_partialPath, long.MaxValue, cancellationToken);

    /// <summary>It takes the destination's place.</summary>
    public void Publish()
    {
        File.Move(_partialPath, _path, overwrite: true);
        _finished = true;
    }

    /// <summary>Closes the file; when it did not take the destination's place, removes it, or leaves it there when told so.</summary>
    public void Dispose()
    {
        _partial.Dispose();
        if (_finished)
            return;
        if (_keepPartial)
            File.Move(_partialPath, _path, overwrite: true);
        else
            File.Delete(_partialPath);
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
            throw EndFiles.Refused(Errno.ENOENT, "DST", path, $"its symbolic links lead nowhere: {e.Message.TrimEnd('.')}", "Name a file, or mend the link");
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
            throw EndFiles.Refused(Errno.ENOENT, "DST", destination, "its folder does not exist", "Create the folder first");
        }
        catch (UnauthorizedAccessException)
        {
            throw EndFiles.Refused(Errno.EACCES, "DST", destination, "its folder may not be written", "Grant permission on the folder");
        }
        catch (IOException e)
        {
            // A file that was created and could not get its space is removed by the call itself.
            throw EndFiles.Refused(Errno.ENOSPC, "DST", destination, $"it cannot be created with {size} bytes: {e.Message.TrimEnd('.')}", "Free space, or name a destination on another file system");
        }
    }

    /// <summary>File systems allow 255 bytes; the name of the partial file is longer than the destination's.</summary>
    private static string Shorten(string name) => name.Length <= 60 ? name : name[..60];
}
