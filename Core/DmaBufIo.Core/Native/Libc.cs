using System.Runtime.InteropServices;
using DmaBufIo.Errors;

namespace DmaBufIo.Native;

/// <summary>The calls of the C library that Core needs. Nothing here interprets: a result is the call's own.</summary>
internal static unsafe partial class Libc
{
    internal const int ProtRead = 1;
    internal const int ProtWrite = 2;
    internal const int MapShared = 1;
    internal const uint MfdCloexec = 1;
    internal const uint MfdAllowSealing = 2;
    internal const int FAddSeals = 1033;
    internal const int FGetSeals = 1034;
    internal const int FDupFdCloexec = 1030;

    [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int MemfdCreate(string name, uint flags);

    [LibraryImport("libc", EntryPoint = "ftruncate", SetLastError = true)]
    internal static partial int Ftruncate(int fd, long length);

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    internal static partial nint Mmap(nint address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
    internal static partial int Munmap(nint address, nuint length);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    internal static partial int Fcntl(int fd, int command, int argument);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    internal static partial int Close(int fd);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Statx(int directory, string path, int flags, uint mask, byte* result);

    /// <summary>Device number, inode and size of an open descriptor.</summary>
    internal static Errno Stat(int fd, out FileIdentity identity, out long size)
    {
        const int AtEmptyPath = 0x1000;
        Errno status = Stat(fd, "", AtEmptyPath, out FileStatus found);
        identity = found.Identity;
        size = found.Size;
        return status;
    }

    /// <summary>What a path leads to, through symbolic links. Opens nothing, so it cannot block on a pipe.</summary>
    internal static Errno Stat(string path, out FileStatus status)
    {
        const int CurrentFolder = -100;
        return Stat(CurrentFolder, path, 0, out status);
    }

    // Through statx: one layout on every architecture.
    private static Errno Stat(int directory, string path, int flags, out FileStatus status)
    {
        const uint BasicStats = 0x7ff;
        byte* buffer = stackalloc byte[256];
        if (Statx(directory, path, flags, BasicStats, buffer) != 0)
        {
            status = default;
            return (Errno)Marshal.GetLastPInvokeError();
        }

        // struct statx: stx_mode at 28, stx_ino at 32, stx_size at 40, stx_dev_major at 136, stx_dev_minor at 140 (linux/stat.h).
        ulong device = ((ulong)*(uint*)(buffer + 136) << 32) | *(uint*)(buffer + 140);
        FileKind kind = (*(ushort*)(buffer + 28) & 0xf000) switch
        {
            0x8000 => FileKind.Regular,
            0x4000 => FileKind.Directory,
            0x6000 => FileKind.BlockDevice,
            _ => FileKind.Other,
        };
        status = new FileStatus(kind, new FileIdentity(device, *(ulong*)(buffer + 32)), *(long*)(buffer + 40));
        return Errno.Ok;
    }
}
