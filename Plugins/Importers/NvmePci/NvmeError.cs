using DmaBufIo.Errors;

namespace DmaBufIo.Importers.NvmePci;

/// <summary>Errors of the driver's control path.</summary>
internal static class NvmeError
{
    private const string TryAgain = "Reset the device; if it fails again, replace it";

    internal static DmaBufIoException Make(Errno errno, string subject, string problem, string remedy, string? rule = null) =>
        new(errno, NvmePciPlugin.PluginName, subject, problem, remedy, rule: rule);

    /// <summary>CSTS reads all ones.</summary>
    internal static DmaBufIoException Gone(string subject) => Make(
        Errno.ENODEV, subject, "the function is gone: its registers read all ones", "Plug it in again and bind the driver anew", "T11");

    /// <summary>CSTS.CFS is set.</summary>
    internal static DmaBufIoException Fatal(string subject) =>
        Make(Errno.EIO, subject, "the controller reported a fatal error (CSTS.CFS)", TryAgain);

    /// <summary>Something took longer than it may.</summary>
    internal static DmaBufIoException TimedOut(string subject, string problem, TimeSpan limit) =>
        Make(Errno.ETIMEDOUT, subject, $"{problem} within {limit.TotalMilliseconds:0} ms", TryAgain);
}
