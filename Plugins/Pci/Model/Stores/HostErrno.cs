using DmaBufIo.Errors;

namespace DmaBufIo.Pci.Model.Stores;

/// <summary>The errno behind an exception of .NET's file operations.</summary>
internal static class HostErrno
{
    /// <summary>True for what a file operation throws when the host's kernel refuses it.</summary>
    internal static bool IsHostFailure(Exception error) =>
        error is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentOutOfRangeException;

    /// <summary>
    /// The errno, <c>EIO</c> when the exception does not carry one. On Unix an IOException's HResult is the errno itself.
    /// </summary>
    internal static Errno Of(Exception error) => error switch
    {
        FileNotFoundException or DirectoryNotFoundException => Errno.ENOENT,
        UnauthorizedAccessException => Errno.EACCES,
        NotSupportedException => Errno.EOPNOTSUPP,
        IOException { HResult: > 0 and < 4096 } io => (Errno)io.HResult,
        _ => Errno.EIO,
    };
}
