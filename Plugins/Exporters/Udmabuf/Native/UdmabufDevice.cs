using System.Runtime.InteropServices;
using DmaBufIo.Errors;
using DmaBufIo.Native;
using DmaBufIo.Plugins;
using Microsoft.Win32.SafeHandles;

namespace DmaBufIo.Exporters.Udmabuf.Native;

/// <summary>The kernel's /dev/udmabuf: turns ranges of sealed memory files into a dma-buf (linux/udmabuf.h).</summary>
internal static unsafe partial class UdmabufDevice
{
    internal const string Path = "/dev/udmabuf";

    // _IOW('u', 0x43, struct udmabuf_create_list): a header of 8 bytes, then the items.
    private const uint CreateList = 0x4008_7543;
    private const uint CloseOnExec = 1;

    /// <summary>True when the device exists and may be opened.</summary>
    internal static bool IsAvailable
    {
        get
        {
            try
            {
                using SafeFileHandle device = Open();
                return true;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                return false;
            }
        }
    }

    /// <summary>Makes the dma-buf.</summary>
    /// <param name="name">The buffer's name, for messages.</param>
    /// <param name="ranges">The ranges; checked by the caller.</param>
    /// <returns>Its descriptor; the caller owns it.</returns>
    /// <exception cref="DmaBufIoException">The kernel refuses.</exception>
    internal static MemfdHandle Create(string name, IReadOnlyList<MemoryFileRange> ranges)
    {
        byte* request = stackalloc byte[8 + (24 * ranges.Count)];
        *(uint*)request = CloseOnExec;
        *(uint*)(request + 4) = (uint)ranges.Count;
        for (int i = 0; i < ranges.Count; i++)
        {
            byte* item = request + 8 + (24 * i);
            *(uint*)item = (uint)ranges[i].File.Number;
            *(uint*)(item + 4) = 0;
            *(ulong*)(item + 8) = (ulong)ranges[i].Offset;
            *(ulong*)(item + 16) = (ulong)ranges[i].Length;
        }

        using SafeFileHandle device = OpenOrRefuse(name);
        int fd = Ioctl((int)device.DangerousGetHandle(), CreateList, request);
        if (fd < 0)
        {
            int code = Marshal.GetLastPInvokeError();
            throw new DmaBufIoException(
                (Errno)code,
                "udmabuf",
                name,
                $"{Path} refuses the buffer: {Marshal.GetPInvokeErrorMessage(code)}",
                "Compare the size with /sys/module/udmabuf/parameters/size_limit_mb and the number of ranges with list_limit",
                range: $"{ranges.Count} ranges, {ranges.Sum(static r => r.Length)} bytes");
        }

        using var owned = new SafeFileHandle(fd, ownsHandle: true);
        return MemfdHandle.Duplicate(owned);
    }

    private static SafeFileHandle OpenOrRefuse(string name)
    {
        try
        {
            return Open();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DmaBufIoException(Errno.ENODEV, "udmabuf", name, $"{Path} cannot be opened: {e.Message.TrimEnd('.')}", "Load the kernel's udmabuf driver and grant access, or use udmabuf:kernel=off", inner: e);
        }
    }

    private static SafeFileHandle Open() => File.OpenHandle(Path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    private static partial int Ioctl(int fd, nuint request, void* argument);
}
