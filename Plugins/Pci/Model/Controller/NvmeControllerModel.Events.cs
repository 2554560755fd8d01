using DmaBufIo.Pci.Model.Protocol;

namespace DmaBufIo.Pci.Model;

/// <summary>
/// Asynchronous events. Requests are held until there is something to report. A type that was reported is masked until its log page has
/// been read. Doorbell writers only set bits in <c>_reportedEvents</c>; the engine takes them.
/// </summary>
public sealed partial class NvmeControllerModel
{
    private const int TypeError = 0;
    private const int TypeHealth = 1;
    private readonly ushort[] _heldRequests = new ushort[IdentifyData.AsyncEventRequests];
    private int _heldCount;
    private int _queuedEvents;
    private int _maskedTypes;

    private void ResetEvents()
    {
        _heldCount = 0;
        _queuedEvents = 0;
        _maskedTypes = 0;
        Interlocked.Exchange(ref _reportedEvents, 0);
    }

    private ushort HoldAsyncEventRequest(in NvmeCommand command)
    {
        ushort status = First(CheckNoNamespace(command), CheckDwords(command, 0), CheckNoData(command));
        if (status != NvmeStatus.Success)
            return status;
        if (_heldRequests.AsSpan(0, _heldCount).Contains(command.CommandId))
            return NvmeStatus.CommandIdConflict;
        if (_heldCount == _heldRequests.Length)
            return NvmeStatus.AsyncEventLimitExceeded;
        _heldRequests[_heldCount++] = command.CommandId;
        return Held;
    }

    // The abort's own completion follows this one, so both need a place; a host with a full queue gets "not aborted".
    private bool AbortAsyncEventRequest(ushort commandId)
    {
        SubmissionQueue admin = _submissionQueues[0]!;
        int at = _heldRequests.AsSpan(0, _heldCount).IndexOf(commandId);
        if (at < 0 || FreeEntries(admin.Completions) < 2)
            return false;
        TakeRequest(at);
        Post(admin, commandId, NvmeStatus.AbortRequested, 0);
        return true;
    }

    private ushort TakeRequest(int at)
    {
        ushort commandId = _heldRequests[at];
        _heldRequests.AsSpan(at + 1, _heldCount - at - 1).CopyTo(_heldRequests.AsSpan(at));
        _heldCount--;
        return commandId;
    }

    private bool CanDeliverEvents() =>
        Volatile.Read(ref _reportedEvents) != 0
        || (_heldCount > 0 && NextEvent() != 0 && FreeEntries(_submissionQueues[0]!.Completions) > 0);

    private bool DeliverEvents()
    {
        if (Volatile.Read(ref _reportedEvents) != 0)
            _queuedEvents |= Interlocked.Exchange(ref _reportedEvents, 0);
        bool worked = false;
        while (_queuedEvents != 0 && _heldCount > 0 && NextEvent() is var next && next != 0 && Running
            && FreeEntries(_submissionQueues[0]!.Completions) > 0)
        {
            _queuedEvents &= ~next;
            _maskedTypes |= 1 << TypeOf(next);
            Post(_submissionQueues[0]!, TakeRequest(0), NvmeStatus.Success, Describe(next));
            worked = true;
        }

        return worked;
    }

    private int NextEvent()
    {
        int deliverable = _queuedEvents;
        if ((_maskedTypes & (1 << TypeError)) != 0)
            deliverable &= ~(EventInvalidRegister | EventInvalidValue);
        if ((_maskedTypes & (1 << TypeHealth)) != 0)
            deliverable &= ~EventTemperature;
        return deliverable & -deliverable;
    }

    private static int TypeOf(int asyncEvent) => asyncEvent == EventTemperature ? TypeHealth : TypeError;

    // Dword 0: type, information, log page. Error: 0 a register that does not exist, 1 a bad value. Health: 1 temperature.
    private static uint Describe(int asyncEvent) => asyncEvent switch
    {
        EventInvalidRegister => TypeError | (LogErrors << 16),
        EventInvalidValue => TypeError | (1u << 8) | (LogErrors << 16),
        _ => TypeHealth | (1u << 8) | (LogHealth << 16),
    };

    private void ReportTemperature()
    {
        if ((CriticalWarning & _features[FeatureAsyncEvents] & 2) != 0)
            _queuedEvents |= EventTemperature;
    }

    private void ClearEvents(int log)
    {
        if (log == LogErrors)
            _maskedTypes &= ~(1 << TypeError);
        else if (log == LogHealth)
            _maskedTypes &= ~(1 << TypeHealth);
    }
}
