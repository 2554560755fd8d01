using DmaBufIo.Errors;

namespace DmaBufIo.Native;

/// <summary>What a file is.</summary>
public enum FileKind
{
    /// <summary>A pipe, a socket, a character device.</summary>
    Other,

    /// <summary>A regular file.</summary>
    Regular,

    /// <summary>A directory.</summary>
    Directory,

    /// <summary>A block device.</summary>
    BlockDevice,
}

/// <summary>What a path leads to.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Identity">Which file it is.</param>
/// <param name="Size">Bytes, for a regular file.</param>
public readonly record struct FileStatus(FileKind Kind, FileIdentity Identity, long Size)
{
    /// <summary>Looks a path up, through symbolic links, without opening it.</summary>
    /// <param name="path">The path.</param>
    /// <param name="status">What it leads to, when the answer is <c>Ok</c>.</param>
    /// <returns><c>Ok</c>, <c>ENOENT</c>, <c>EACCES</c> when a folder may not be searched, or what the system says.</returns>
    public static Errno Of(string path, out FileStatus status) => Libc.Stat(path, out status);
}
