using DmaBufIo.Errors;
using DmaBufIo.Pci.Model.Native;
using Microsoft.Win32.SafeHandles;

namespace DmaBufIo.Pci.Model.Stores;

/// <summary>A namespace in a file: pread(2) and pwrite(2) straight between the file and the memory of the transfer.</summary>
internal sealed class FileNamespaceStore : INamespaceStore
{
    private static readonly byte[] s_zeros = new byte[65536];
    private readonly SafeFileHandle _file;

    private FileNamespaceStore(SafeFileHandle file, long length)
    {
        _file = file;
        Length = length;
    }

    /// <summary>The length when the file was opened or as this store has grown it; other writers of the file are not followed.</summary>
    public long Length { get; private set; }

    /// <summary>Opens the file of a controller.</summary>
    /// <exception cref="DmaBufIoException">Missing (<c>ENOENT</c>), a directory (<c>EISDIR</c>), not accessible (<c>EACCES</c>), or
    /// what the host says.</exception>
    internal static FileNamespaceStore Open(NvmeModelOptions options)
    {
        string path = options.Path!;
        if (Directory.Exists(path))
            throw Refused(Errno.EISDIR, path, "it is a directory", "Name a regular file");
        SafeFileHandle? file = null;
        try
        {
            // Shared with every other opener but controllers: the tools that verify a copy read the file while the controller holds it.
            file = File.OpenHandle(
                path,
                options.CreateFile ? FileMode.OpenOrCreate : FileMode.Open,
                options.ReadOnly ? FileAccess.Read : FileAccess.ReadWrite,
                FileShare.ReadWrite | FileShare.Delete);
            if (FileLock.TryTake(file, forWriting: !options.ReadOnly) != Errno.Ok)
            {
                file.Dispose();
                throw Refused(
                    Errno.EBUSY, path, options.ReadOnly ? "another controller writes the file" : "another controller has the file open",
                    "Wait until it is closed: one file is one namespace, in this process and in others");
            }

            return new FileNamespaceStore(file, RandomAccess.GetLength(file));
        }
        catch (Exception error) when (HostErrno.IsHostFailure(error))
        {
            file?.Dispose();
            Errno errno = HostErrno.Of(error);
            string remedy = errno switch
            {
                Errno.ENOENT => "Check the name, or let the file be created",
                Errno.EACCES when options.ReadOnly => "Grant read permission",
                Errno.EACCES => "Grant read and write permission, or open the namespace read-only",
                Errno.EOPNOTSUPP => "Name a regular file, not a pipe or socket",
                _ => "See the host's error",
            };
            throw Refused(errno, path, "the file cannot be opened: " + error.Message.TrimEnd('.'), remedy, error);
        }
    }

    public Errno Read(long position, Span<byte> destination)
    {
        try
        {
            while (!destination.IsEmpty)
            {
                int read = RandomAccess.Read(_file, destination, position);
                if (read == 0)
                {
                    destination.Clear();
                    break;
                }

                destination = destination[read..];
                position += read;
            }

            return Errno.Ok;
        }
        catch (Exception error) when (HostErrno.IsHostFailure(error))
        {
            return HostErrno.Of(error);
        }
    }

    public Errno Write(long position, ReadOnlySpan<byte> source)
    {
        try
        {
            RandomAccess.Write(_file, source, position);
            Length = Math.Max(Length, position + source.Length);
            return Errno.Ok;
        }
        catch (Exception error) when (HostErrno.IsHostFailure(error))
        {
            return HostErrno.Of(error);
        }
    }

    public Errno Zero(long position, long length, bool extend)
    {
        long end = position + length;
        long inside = Math.Min(end, Length) - position;
        if (inside > 0)
        {
            Errno errno = FileHoles.Punch(_file, position, inside);
            if (errno is Errno.EOPNOTSUPP)
                errno = WriteZeros(position, inside);
            if (errno != Errno.Ok)
                return errno;
        }

        if (!extend || end <= Length)
            return Errno.Ok;
        try
        {
            RandomAccess.SetLength(_file, end);
            Length = end;
            return Errno.Ok;
        }
        catch (Exception error) when (HostErrno.IsHostFailure(error))
        {
            return HostErrno.Of(error);
        }
    }

    public Errno Flush()
    {
        try
        {
            RandomAccess.FlushToDisk(_file);
            return Errno.Ok;
        }
        catch (Exception error) when (HostErrno.IsHostFailure(error))
        {
            return HostErrno.Of(error);
        }
    }

    public void Dispose() => _file.Dispose();

    private static DmaBufIoException Refused(Errno errno, string path, string problem, string remedy, Exception? inner = null) =>
        new(errno, "Pci.Model", path, problem, remedy, inner: inner);

    private Errno WriteZeros(long position, long length)
    {
        while (length > 0)
        {
            int part = (int)Math.Min(length, s_zeros.Length);
            Errno errno = Write(position, s_zeros.AsSpan(0, part));
            if (errno != Errno.Ok)
                return errno;
            position += part;
            length -= part;
        }

        return Errno.Ok;
    }
}
