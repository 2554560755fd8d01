using System.Runtime.InteropServices;
using DmaBufIo.Errors;
using Microsoft.Win32.SafeHandles;

namespace DmaBufIo.Pci.Model.Native;

/// <summary>Deallocation of a part of a file (fallocate(2)), which .NET does not offer.</summary>
internal static partial class FileHoles
{
    private const int KeepSize = 1;
    private const int PunchHole = 2;

    /// <summary>Frees the range: it reads as zeros afterwards and the file's length stays.</summary>
    /// <returns><c>EOPNOTSUPP</c> where the file system cannot; nothing was changed then.</returns>
    internal static Errno Punch(SafeFileHandle file, long offset, long length)
    {
        while (Fallocate(file, PunchHole | KeepSize, offset, length) != 0)
        {
            var errno = (Errno)Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR)
                return errno;
        }

        return Errno.Ok;
    }

    [LibraryImport("libc", EntryPoint = "fallocate", SetLastError = true)]
    private static partial int Fallocate(SafeFileHandle file, int mode, long offset, long length);
}
