using System.Runtime.InteropServices;
using DmaBufIo.Errors;
using Microsoft.Win32.SafeHandles;

namespace DmaBufIo.Native;

/// <summary>An anonymous memory file (memfd_create(2)): shareable by descriptor, mappable, sealable.</summary>
public sealed class MemfdHandle : SafeHandleZeroOrMinusOneIsInvalid
{
    /// <summary>F_SEAL_SHRINK: the file cannot become smaller (fcntl(2)). A udmabuf asks for it.</summary>
    internal const int SealShrink = 2;

    private MemfdHandle(int fd)
        : base(ownsHandle: true) => SetHandle(fd);

    /// <summary>The descriptor's number, for calls that take one. Valid while this handle is open.</summary>
    public int Number => (int)handle;

    /// <summary>The file's size in bytes.</summary>
    /// <exception cref="DmaBufIoException">The descriptor was closed.</exception>
    public long Length
    {
        get
        {
            Errno status = Libc.Stat(Number, out _, out long size);
            return status == Errno.Ok ? size : throw Failed("statx", "memfd");
        }
    }

    /// <summary>True when both descriptors are of one file.</summary>
    /// <param name="other">Another open descriptor.</param>
    public bool IsSameFile(MemfdHandle other) =>
        Libc.Stat(Number, out FileIdentity mine, out _) == Errno.Ok && Libc.Stat(other.Number, out FileIdentity theirs, out _) == Errno.Ok && mine == theirs;

    /// <summary>True when the file is sealed against shrinking.</summary>
    /// <exception cref="DmaBufIoException">The descriptor does not support seals.</exception>
    public bool IsSealedAgainstShrinking
    {
        get
        {
            int seals = Libc.Fcntl(Number, Libc.FGetSeals, 0);
            return seals >= 0 ? (seals & SealShrink) != 0 : throw Failed("fcntl(F_GET_SEALS)", "memfd");
        }
    }

    /// <summary>Creates an anonymous file of the given size, close-on-exec and open for sealing.</summary>
    /// <param name="name">A name for /proc and for messages; not unique.</param>
    /// <param name="length">Size in bytes, 0 or more.</param>
    /// <returns>The handle; the caller owns it.</returns>
    /// <exception cref="DmaBufIoException">The kernel refuses: descriptors or memory exhausted.</exception>
    public static MemfdHandle Create(string name, long length)
    {
        int fd = Libc.MemfdCreate(name, Libc.MfdCloexec | Libc.MfdAllowSealing);
        if (fd < 0)
            throw Failed("memfd_create", name);
        var memfd = new MemfdHandle(fd);
        if (Libc.Ftruncate(fd, length) == 0)
            return memfd;
        DmaBufIoException error = Failed("ftruncate", name);
        memfd.Dispose();
        throw error;
    }

    /// <summary>Makes a second descriptor of the same file, as dup(2) does; the caller owns it.</summary>
    /// <param name="descriptor">An open descriptor.</param>
    /// <exception cref="DmaBufIoException">The descriptor is closed or the descriptor table is full.</exception>
    public static MemfdHandle Duplicate(SafeHandle descriptor)
    {
        bool taken = false;
        try
        {
            descriptor.DangerousAddRef(ref taken);
            int fd = Libc.Fcntl((int)descriptor.DangerousGetHandle(), Libc.FDupFdCloexec, 0);
            return fd >= 0 ? new MemfdHandle(fd) : throw Failed("fcntl(F_DUPFD_CLOEXEC)", "descriptor");
        }
        finally
        {
            if (taken)
                descriptor.DangerousRelease();
        }
    }

    /// <summary>Seals the file against shrinking, so that a mapping of it can never lose its pages (udmabuf's rule).</summary>
    /// <exception cref="DmaBufIoException">The kernel refuses.</exception>
    public void SealAgainstShrinking()
    {
        if (Libc.Fcntl(Number, Libc.FAddSeals, SealShrink) != 0)
            throw Failed("fcntl(F_ADD_SEALS)", "memfd");
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => Libc.Close((int)handle) == 0;

    private static DmaBufIoException Failed(string call, string subject)
    {
        int code = Marshal.GetLastPInvokeError();
        return new DmaBufIoException(
            (Errno)code,
            "Native",
            subject,
            $"{call} failed: {Marshal.GetPInvokeErrorMessage(code)}",
            "Check the limits on open files and on memory (ulimit -n, ulimit -v, free memory)");
    }
}
