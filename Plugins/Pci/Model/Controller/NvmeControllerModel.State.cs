using DmaBufIo.Pci.Model.Protocol;

namespace DmaBufIo.Pci.Model;

/// <summary>Enable, disable, shutdown, reset. Everything here runs with the engine's lock held, between two commands.</summary>
public sealed partial class NvmeControllerModel
{
    private const uint CcEnable = 1;
    private const uint CcFixedWhileEnabled = 0x3FF0; // CSS, MPS and AMS
    private const uint CstsReady = 1;
    private const uint CstsFatal = 2;
    private const uint CstsShutdownMask = 0xC;
    private const uint CstsShutdownOccurring = 0x4;
    private const uint CstsShutdownComplete = 0x8;
    private bool _shutdownDue;
    private int _pageSize = 4096;

    private bool Running => _csts == CstsReady && !_gone;

    /// <inheritdoc/>
    public override void Reset()
    {
        EnterControl();
        try
        {
            if (_gone)
                return;
            Disable();
            Volatile.Write(ref _csts, 0);
            Volatile.Write(ref _cc, 0);
            Volatile.Write(ref _aqa, 0);
            Volatile.Write(ref _asq, 0);
            Volatile.Write(ref _acq, 0);
        }
        finally
        {
            _engine.Exit();
        }
    }

    private void WriteConfiguration(uint value)
    {
        uint old = _cc;
        if ((old & value & CcEnable) != 0 && ((old ^ value) & CcFixedWhileEnabled) != 0)
        {
            RecordHostViolation("CC", -1, value, "CC.CSS, CC.MPS or CC.AMS was changed while the controller was enabled");
            value = (value & ~CcFixedWhileEnabled) | (old & CcFixedWhileEnabled);
        }

        Volatile.Write(ref _cc, value);
        if ((old & CcEnable) != 0 && (value & CcEnable) == 0)
            Disable();
        if ((old & CcEnable) == 0 && (value & CcEnable) != 0)
            Enable();
        bool shutdownNotified = ((value >> 14) & 3) is 1 or 2;
        if (shutdownNotified && (_csts & CstsShutdownMask) == 0)
            BeginShutdown();
    }

    private void Enable()
    {
        int mps = (int)(_cc >> 7) & 0xF;
        int submissionEntries = (int)(_aqa & 0xFFF) + 1;
        int completionEntries = (int)(_aqa >> 16) + 1;
        string? problem =
            mps > LargestMps ? "CC.MPS is above CAP.MPSMAX"
            : ((_cc >> 4) & 7) != 0 ? "CC.CSS selects a command set that CAP.CSS does not offer"
            : ((_cc >> 11) & 7) != 0 ? "CC.AMS selects an arbitration that CAP.AMS does not offer"
            : submissionEntries < 2 || completionEntries < 2 ? "AQA gives an admin queue fewer than 2 entries"
            : ((_asq | _acq) & ((4096ul << mps) - 1)) != 0 ? "ASQ or ACQ is not aligned to the page size of CC.MPS"
            : null;
        if (problem is not null)
        {
            RecordHostViolation("CC", -1, _cc, problem);
            Volatile.Write(ref _csts, _csts | CstsFatal);
            return;
        }

        _pageSize = 4096 << mps;
        var completions = new CompletionQueue(0, _acq, completionEntries, interruptsEnabled: true, vector: 0) { Users = 1 };
        Volatile.Write(ref _completionQueues[0], completions);
        Volatile.Write(ref _submissionQueues[0], new SubmissionQueue(0, _asq, submissionEntries, completions));
        ListActiveQueues();
        Volatile.Write(ref _csts, CstsReady);
    }

    // Controller reset: queues, held commands, features and pending interrupts are forgotten; AQA, ASQ and ACQ stay.
    private void Disable()
    {
        Array.Clear(_submissionQueues);
        Array.Clear(_completionQueues);
        ListActiveQueues();
        Array.Clear(_doorbells);
        Array.Clear(_pendingVectors);
        Volatile.Write(ref _interruptMask, 0);
        _shutdownDue = false;
        ResetEvents();
        ResetFeatures();
        Volatile.Write(ref _csts, 0);
    }

    private void BeginShutdown()
    {
        Volatile.Write(ref _csts, _csts | CstsShutdownOccurring);
        if (_options.OwnThread)
            _shutdownDue = true;
        else
            CompleteShutdown(); // A driver that polls SHST may never call Advance.
    }

    private void CompleteShutdown()
    {
        _shutdownDue = false;
        if (!_options.ReadOnly)
            FlushStore(-1, -1);
        Volatile.Write(ref _csts, (_csts & ~CstsShutdownMask) | CstsShutdownComplete);
    }

    private void SetFatal() => Volatile.Write(ref _csts, _csts | CstsFatal);
}
