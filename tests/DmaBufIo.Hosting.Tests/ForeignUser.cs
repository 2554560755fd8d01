using System.Runtime.InteropServices;

namespace DmaBufIo.Tests;

/// <summary>
/// Reads files with the rights of nobody, where the tests run as root, whom no mode of a file keeps out: the file system's user id is the thread's own (setfsuid(2)), and with another than root's the
/// capabilities that pass over modes are off. Where the tests do not run as root it changes nothing, and modes hold anyway.
/// </summary>
internal static partial class ForeignUser
{
    private const uint Nobody = 65534;

    /// <summary>Runs something on this thread with those rights.</summary>
    internal static void Run(Action action)
    {
        uint before = (uint)SetFileSystemUser(Nobody);
        try
        {
            action();
        }
        finally
        {
            _ = SetFileSystemUser(before);
        }
    }

    [DllImport("libc", EntryPoint = "setfsuid")]
    private static extern int SetFileSystemUser(uint user);
}
