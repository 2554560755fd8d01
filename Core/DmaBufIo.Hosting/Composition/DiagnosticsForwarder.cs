using DmaBufIo.Diagnostics;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Hosting;

/// <summary>Logs what Core reports to the process for as long as the host runs.</summary>
internal sealed class DiagnosticsForwarder : IDisposable
{
    private readonly ILogger _logger;

    internal DiagnosticsForwarder(ILogger logger)
    {
        _logger = logger;
        DmaBufIoDiagnostics.LongWaitDetected += OnLongWait;
        DmaBufIoDiagnostics.DriverFaulted += OnDriverFault;
        DmaBufIoDiagnostics.MemberFaulted += OnMemberFault;
    }

    public void Dispose()
    {
        DmaBufIoDiagnostics.LongWaitDetected -= OnLongWait;
        DmaBufIoDiagnostics.DriverFaulted -= OnDriverFault;
        DmaBufIoDiagnostics.MemberFaulted -= OnMemberFault;
    }

    private void OnLongWait(LongWait wait) => _logger.LongWait(wait.Thread, wait.Waited, wait.WaitsFor);

    private void OnDriverFault(DriverFault fault) => _logger.DriverFault(fault.Callback, fault.Exception);

    private void OnMemberFault(MemberFault fault) => _logger.MemberFault(fault.Set, fault.Member, fault.Status, fault.Offset, fault.Length);
}
