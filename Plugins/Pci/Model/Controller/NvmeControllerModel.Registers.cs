using DmaBufIo.Pci.Model.Protocol;

namespace DmaBufIo.Pci.Model;

/// <summary>BAR 0. Reads take no lock; writes that change the controller's state take the engine's lock, doorbells do not.</summary>
public sealed partial class NvmeControllerModel
{
    private const int RegisterCap = 0x00;
    private const int RegisterVersion = 0x08;
    private const int RegisterIntms = 0x0C;
    private const int RegisterIntmc = 0x10;
    private const int RegisterCc = 0x14;
    private const int RegisterCsts = 0x1C;
    private const int RegisterAqa = 0x24;
    private const int RegisterAsq = 0x28;
    private const int RegisterAcq = 0x30;
    private const int DoorbellBase = 0x1000;

    /// <summary>CAP.MPSMAX: 64 KiB pages are the largest.</summary>
    private const int LargestMps = 4;

    private readonly ulong _capabilities;
    private readonly long _barLength;
    private int _interruptMask;
    private uint _cc;
    private uint _csts;
    private uint _aqa;
    private ulong _asq;
    private ulong _acq;

    /// <inheritdoc/>
    public override uint Read32(int bar, long offset)
    {
        if (_gone || bar != 0 || (ulong)offset >= (ulong)_barLength)
            return uint.MaxValue;
        return offset switch
        {
            RegisterCap => (uint)_capabilities,
            RegisterCap + 4 => (uint)(_capabilities >> 32),
            RegisterVersion => IdentifyData.Version,
            RegisterIntms or RegisterIntmc => (uint)Volatile.Read(ref _interruptMask),
            RegisterCc => Volatile.Read(ref _cc),
            RegisterCsts => Volatile.Read(ref _csts),
            RegisterAqa => Volatile.Read(ref _aqa),
            RegisterAsq => (uint)Volatile.Read(ref _asq),
            RegisterAsq + 4 => (uint)(Volatile.Read(ref _asq) >> 32),
            RegisterAcq => (uint)Volatile.Read(ref _acq),
            RegisterAcq + 4 => (uint)(Volatile.Read(ref _acq) >> 32),
            _ => 0,
        };
    }

    /// <inheritdoc/>
    public override void Write32(int bar, long offset, uint value)
    {
        if (bar != 0 || _gone || (ulong)offset >= (ulong)_barLength)
            return;
        if (offset >= DoorbellBase && (offset & 3) == 0)
        {
            RingDoorbell((int)(offset - DoorbellBase) >> 2, value);
            return;
        }

        EnterControl();
        try
        {
            if (!_gone)
                WriteRegister(offset, value);
        }
        finally
        {
            _engine.Exit();
        }

        WakeIfSleeping();
    }

    private static ulong BuildCapabilities(NvmeModelOptions options)
    {
        const ulong ContiguousQueuesRequired = 1ul << 16;
        const ulong TimeoutInHalfSeconds = 20ul << 24;
        const ulong NvmCommandSet = 1ul << 37;
        ulong largestPage = (ulong)LargestMps << 52;
        return (ulong)(options.MaxQueueEntries - 1) | ContiguousQueuesRequired | TimeoutInHalfSeconds | NvmCommandSet | largestPage;
    }

    // A power of two, as every BAR, and at least the 16 KiB that drivers expect.
    private static long BarLengthFor(NvmeModelOptions options) =>
        Math.Max(16384, (long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)DoorbellBase + (ulong)(options.MaxQueues + 1) * 8));

    private static ulong WithHalf(ulong value, bool upper, uint half) =>
        upper ? (value & uint.MaxValue) | ((ulong)half << 32) : (value & ~(ulong)uint.MaxValue) | half;

    private void WriteRegister(long offset, uint value)
    {
        switch (offset)
        {
            case RegisterIntms:
                Interlocked.Or(ref _interruptMask, (int)value);
                break;
            case RegisterIntmc:
                Interlocked.And(ref _interruptMask, (int)~value);
                break;
            case RegisterCc:
                WriteConfiguration(value);
                break;
            case RegisterAqa:
                if (MayConfigureAdminQueue(offset))
                    Volatile.Write(ref _aqa, value & 0x0FFF_0FFF);
                break;
            case RegisterAsq or RegisterAsq + 4:
                if (MayConfigureAdminQueue(offset))
                    Volatile.Write(ref _asq, WithHalf(_asq, offset != RegisterAsq, value));
                break;
            case RegisterAcq or RegisterAcq + 4:
                if (MayConfigureAdminQueue(offset))
                    Volatile.Write(ref _acq, WithHalf(_acq, offset != RegisterAcq, value));
                break;
            default:
                RecordHostViolation("register", -1, (ulong)offset, "a register that is reserved or read-only was written");
                break;
        }
    }

    private bool MayConfigureAdminQueue(long offset)
    {
        if ((_cc & CcEnable) == 0)
            return true;
        RecordHostViolation("register", 0, (ulong)offset, "an admin queue register was written while the controller was enabled");
        return false;
    }

    // Not part of a command, so there is nothing to fail: it is recorded in strict mode only.
    private void RecordHostViolation(string rule, int queue, ulong address, string problem)
    {
        if (_options.Strict)
            _violations.Add(new NvmeViolation(rule, 0, queue, -1, address, problem));
    }
}
