using System.Runtime.InteropServices;
using DmaBufIo.Errors;
using Microsoft.Win32.SafeHandles;

namespace DmaBufIo.Pci.Model.Native;

/// <summary>
/// An advisory lock on a whole file that belongs to the open file (F_OFD_SETLK of fcntl(2)): two controllers in one process meet it as two processes do. Not flock(2), by which .NET keeps
/// every opener of its own apart, also those that only look.
/// </summary>
internal static partial class FileLock
{
    private const int SetOpenFileLock = 37; // F_OFD_SETLK
    private const short ReadLock = 0;
    private const short WriteLock = 1;

    /// <summary>Locks the file until it is closed: shared by readers, or for one writer alone.</summary>
    /// <returns><c>EBUSY</c> when somebody else has it; <c>Ok</c> also where the file system knows no locks.</returns>
    internal static unsafe Errno TryTake(SafeFileHandle file, bool forWriting)
    {
        var request = new Range { Type = forWriting ? WriteLock : ReadLock };
        while (Fcntl(file, SetOpenFileLock, &request) != 0)
        {
            var errno = (Errno)Marshal.GetLastPInvokeError();
            if (errno != Errno.EINTR)
                return errno is Errno.EAGAIN or Errno.EACCES ? Errno.EBUSY : Errno.Ok;
        }

        return Errno.Ok;
    }

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static unsafe partial int Fcntl(SafeFileHandle file, int command, Range* argument);

    // struct flock of 64-bit Linux. A length of 0 is to the end, wherever that will be.
    [StructLayout(LayoutKind.Sequential)]
    private struct Range
    {
        internal short Type;
        internal short Whence;
        internal long Start;
        internal long Length;
        internal int Process;
    }
}
