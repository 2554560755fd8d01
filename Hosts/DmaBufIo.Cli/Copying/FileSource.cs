using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Native;
using DmaBufIo.Plugins;

namespace DmaBufIo.Cli.Copying;

/// <summary>One file as the source.</summary>
internal sealed class FileSource : ICopySource
{
    private readonly string _path;
    private readonly long _size;

    /// <summary>Checks the file.</summary>
    /// <exception cref="DmaBufIoException">Missing, unreadable or not a regular file.</exception>
    internal FileSource(DeviceExpression expression, int lba)
    {
        if (expression.Options.TryGetValue("size", out DeviceOption size))
            throw expression.Broken(size.NamePosition, "a copy takes the size from the file", "Leave the option size out");
        _path = Path.GetFullPath(expression.Text!);
        FileStatus input = EndFiles.Look("SRC", _path) ?? throw EndFiles.Refused(Errno.ENOENT, "SRC", _path, "there is no such file", "Check the name");
        CheckReadable(_path);
        _size = input.Size;
        Expression = EndFiles.WithBlock(expression with { Text = _path }, lba);
    }

    /// <inheritdoc/>
    public DeviceExpression Expression { get; }

    /// <inheritdoc/>
    public long SizeOf(OpenedDevice device) => _size;

    /// <inheritdoc/>
    public string Hash(long size, CancellationToken cancellationToken) => ContentHash.OfFile(_path, size, cancellationToken);

    private static void CheckReadable(string path)
    {
        try
        {
            File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete).Dispose();
        }
        catch (UnauthorizedAccessException)
        {
            throw EndFiles.Refused(Errno.EACCES, "SRC", path, "it may not be read", "Grant read permission on the file and its folders");
        }
        catch (IOException e)
        {
            throw EndFiles.Refused(Errno.EIO, "SRC", path, e.Message.TrimEnd('.'), "Check the file and its file system");
        }
    }
}
