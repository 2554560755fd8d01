using DmaBufIo.Errors;

namespace DmaBufIo.Importers.Rnic;

/// <summary>Errors of the plugin's control paths.</summary>
internal static class RnicError
{
    internal static DmaBufIoException Make(Errno errno, string subject, string problem, string remedy, string? rule = null) =>
        new(errno, RnicPlugin.PluginName, subject, problem, remedy, rule: rule);
}
