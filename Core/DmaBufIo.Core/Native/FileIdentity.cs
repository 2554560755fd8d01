using System.Runtime.InteropServices;
using DmaBufIo.Errors;

namespace DmaBufIo.Native;

/// <summary>What makes two descriptors the same file, whatever names or links they were opened by: device number and inode.</summary>
/// <param name="Device">Major number in the upper, minor number in the lower 32 bits.</param>
/// <param name="Inode">The inode number on that device.</param>
public readonly record struct FileIdentity(ulong Device, ulong Inode)
{
    /// <summary>The identity of an open file.</summary>
    /// <param name="descriptor">An open descriptor; stays the caller's.</param>
    /// <exception cref="DmaBufIoException">The descriptor cannot be examined.</exception>
    public static FileIdentity Of(SafeHandle descriptor)
    {
        bool taken = false;
        try
        {
            descriptor.DangerousAddRef(ref taken);
            Errno status = Libc.Stat((int)descriptor.DangerousGetHandle(), out FileIdentity identity, out _);
            return status == Errno.Ok
                ? identity
                : throw new DmaBufIoException(status, "Native", "descriptor", "statx failed", "Pass an open descriptor");
        }
        finally
        {
            if (taken)
                descriptor.DangerousRelease();
        }
    }
}
