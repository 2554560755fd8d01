using System.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Pci;

namespace DmaBufIo.Importers.NvmePci.Controller;

/// <summary>The registers of BAR 0 and the state changes behind them.</summary>
internal sealed class ControllerRegisters
{
    private const int Bar = 0;
    private const long Cap = 0x00;
    private const long Cc = 0x14;
    private const long Csts = 0x1C;
    private const long Aqa = 0x24;
    private const long Asq = 0x28;
    private const long Acq = 0x30;
    private const long Doorbells = 0x1000;
    private const uint CcEnable = 1;
    private const uint CcShutdownNormal = 1 << 14;
    private const uint CcEntrySizes = (6 << 16) | (4 << 20); // IOSQES: 64 bytes, IOCQES: 16 bytes
    private const uint CstsReady = 1;
    private const uint CstsFatal = 2;
    private const uint CstsShutdownMask = 0xC;
    private const uint CstsShutdownComplete = 0x8;
    private readonly PciFunction _function;
    private readonly string _name;
    private ulong _cap;

    internal ControllerRegisters(PciFunction function, string name)
    {
        _function = function;
        _name = name;
        ReadCapabilities();
        if (((_cap >> 37) & 1) == 0)
        {
            throw NvmeError.Make(
                Errno.EOPNOTSUPP, name, "the controller has no NVM command set (CAP.CSS)", "Bind the driver to an I/O controller");
        }
    }

    /// <summary>CAP.MQES: the most entries of an I/O queue.</summary>
    internal int MaxQueueEntries => (int)(_cap & 0xFFFF) + 1;

    /// <summary>CAP.MPSMIN: the smallest controller page, which is the one the driver uses, as a power of two (P1).</summary>
    internal int PageShift => 12 + (int)((_cap >> 48) & 0xF);

    /// <summary>CAP.TO: how long enabling and disabling may take.</summary>
    internal TimeSpan ReadyTimeout => TimeSpan.FromMilliseconds(500 * Math.Max(1, (int)((_cap >> 24) & 0xFF)));

    /// <summary>CSTS reading all ones means that the function is gone. A register read: not on the request path.</summary>
    internal bool IsGone => _function.Read32(Bar, Csts) == uint.MaxValue;

    /// <summary>CSTS.CFS: the controller has failed and wants a reset.</summary>
    internal bool IsFatal => _function.Read32(Bar, Csts) is var csts && csts != uint.MaxValue && (csts & CstsFatal) != 0;

    /// <summary>The offset of a submission queue's tail doorbell in BAR 0.</summary>
    internal long TailDoorbell(int queue) => Doorbells + (2L * queue << DoorbellShift);

    /// <summary>The offset of a completion queue's head doorbell in BAR 0.</summary>
    internal long HeadDoorbell(int queue) => Doorbells + (2L * queue + 1 << DoorbellShift);

    private int DoorbellShift => 2 + (int)((_cap >> 32) & 0xF);

    /// <summary>Rings a doorbell.</summary>
    internal void Ring(long doorbell, int value) => _function.Write32(Bar, doorbell, (uint)value);

    /// <summary>Configures and enables the controller and waits until it is ready. It is disabled.</summary>
    /// <param name="submission">Device address of the admin submission queue.</param>
    /// <param name="completion">Device address of the admin completion queue.</param>
    /// <param name="entries">Entries of each.</param>
    internal void Enable(ulong submission, ulong completion, int entries)
    {
        uint size = (uint)(entries - 1);
        _function.Write32(Bar, Aqa, size | (size << 16));
        _function.Write64(Bar, Asq, submission);
        _function.Write64(Bar, Acq, completion);
        uint configuration = CcEntrySizes | ((uint)(PageShift - 12) << 7);
        _function.Write32(Bar, Cc, configuration);

        // What CAP states may depend on the configuration just written.
        ReadCapabilities();
        _function.Write32(Bar, Cc, configuration | CcEnable);
        WaitFor(CstsReady, CstsReady, ReadyTimeout, "get ready");
    }

    /// <summary>
    /// Disables the controller and waits until it is: all its DMA has ended then. When it does not obey, the function is reset, which
    /// ends the DMA as
    /// well. Returns at once when the function is gone: what is not there does no DMA.
    /// </summary>
    internal void Disable()
    {
        if (IsGone)
            return;
        try
        {
            uint configuration = _function.Read32(Bar, Cc);
            if ((configuration & CcEnable) != 0)
                _function.Write32(Bar, Cc, configuration & ~CcEnable);
            WaitFor(CstsReady, 0, ReadyTimeout, "become disabled", mayBeFatal: true);
        }
        catch (DmaBufIoException e) when (e.Errno == Errno.ETIMEDOUT)
        {
            _function.Reset();
            WaitFor(CstsReady, 0, ReadyTimeout, "become disabled by a function-level reset", mayBeFatal: true);
        }
    }

    /// <summary>Tells the controller that power may go, so that it saves what its cache holds, and waits for it. Its queues execute
    /// nothing any more.</summary>
    /// <param name="limit">How long to wait.</param>
    internal void Shutdown(TimeSpan limit)
    {
        _function.Write32(Bar, Cc, _function.Read32(Bar, Cc) | CcShutdownNormal);
        WaitFor(CstsShutdownMask, CstsShutdownComplete, limit, "shut down");
    }

    private void ReadCapabilities()
    {
        _cap = _function.Read64(Bar, Cap);
        if (_cap == ulong.MaxValue)
            throw NvmeError.Gone(_name);
    }

    private void WaitFor(uint mask, uint value, TimeSpan limit, string what, bool mayBeFatal = false)
    {
        long started = Stopwatch.GetTimestamp();
        var spin = new SpinWait();
        while (true)
        {
            // The clock is read first: a thread that was not scheduled for long still gets its last look.
            bool last = Stopwatch.GetElapsedTime(started) > limit;
            _function.Advance();
            uint csts = _function.Read32(Bar, Csts);
            if (csts == uint.MaxValue)
                throw NvmeError.Gone(_name);
            if ((csts & mask) == value)
                return;
            if ((csts & CstsFatal) != 0 && !mayBeFatal)
                throw NvmeError.Fatal($"{_name}, which should {what}");
            if (last)
                throw NvmeError.TimedOut(_name, $"the controller did not {what}", limit);
            spin.SpinOnce();
        }
    }
}
