using DmaBufIo.Dma;
using DmaBufIo.Pci;

namespace DmaBufIo.Models.NullDevice;

/// <content>BAR 0.</content>
public sealed partial class NullController : PciFunction
{
    private const long Cap = 0x00;
    private const long Version = 0x08;
    private const long Cc = 0x14;
    private const long Csts = 0x1C;
    private const long Aqa = 0x24;
    private const long Asq = 0x28;
    private const long Acq = 0x30;
    private const long Doorbells = 0x1000;
    private const uint Ready = 1;
    private const uint Fatal = 2;
    private const uint ShutdownComplete = 8;

    private uint _cc;
    private uint _csts;
    private uint _aqa;
    private ulong _asq;
    private ulong _acq;

    /// <inheritdoc/>
    public override long BarLength(int bar) => bar == 0 ? _barLength : 0;

    /// <inheritdoc/>
    public override uint Read32(int bar, long offset)
    {
        if (bar != 0 || (ulong)offset >= (ulong)_barLength || Volatile.Read(ref _disposed))
            return uint.MaxValue;

        // MQES, contiguous queues, 10 s to get ready, the NVM command set; pages of 4 KiB.
        ulong capabilities = (ulong)(_options.MaxQueueEntries - 1) | (1UL << 16) | (20UL << 24) | (1UL << 37);
        return offset switch
        {
            Cap => (uint)capabilities,
            Cap + 4 => (uint)(capabilities >> 32),
            Version => 0x0001_0400,
            Cc => Volatile.Read(ref _cc),
            Csts => Volatile.Read(ref _csts),
            Aqa => _aqa,
            Asq => (uint)_asq,
            Asq + 4 => (uint)(_asq >> 32),
            Acq => (uint)_acq,
            Acq + 4 => (uint)(_acq >> 32),
            _ => 0,
        };
    }

    /// <inheritdoc/>
    public override void Write32(int bar, long offset, uint value)
    {
        // 64 bits: an offset that does not fit 32 is no doorbell.
        long doorbell = (offset - Doorbells) >> 2;
        NullQueuePair?[] pairs = _pairs;
        if (bar == 0 && doorbell >= 2 && doorbell >> 1 < pairs.Length && pairs[doorbell >> 1] is { } pair)
        {
            if (!((doorbell & 1) == 0 ? pair.RingTail(value) : pair.RingHead(value)))
                Fail($"queue {doorbell >> 1} was rung with {value}, or its memory is gone");
            return;
        }

        if (bar == 0 && (ulong)offset < (ulong)_barLength)
            WriteControl(offset, doorbell, value);
    }

    private void WriteControl(long offset, long doorbell, uint value)
    {
        lock (_control)
        {
            if (_disposed)
                return;
            switch (offset)
            {
                case Cc:
                    Configure(value);
                    break;
                case Aqa:
                    _aqa = value;
                    break;
                case Asq:
                    _asq = (_asq & ~0xFFFF_FFFFUL) | value;
                    break;
                case Asq + 4:
                    _asq = (uint)_asq | ((ulong)value << 32);
                    break;
                case Acq:
                    _acq = (_acq & ~0xFFFF_FFFFUL) | value;
                    break;
                case Acq + 4:
                    _acq = (uint)_acq | ((ulong)value << 32);
                    break;
                case Doorbells:
                    WorkAdmin(value);
                    break;
                default:
                    if (doorbell != 1 && offset >= Doorbells)
                        Fail($"a doorbell of queue {doorbell >> 1}, which does not exist, was rung");
                    break;
            }
        }
    }

    private void Configure(uint value)
    {
        bool wasEnabled = (_cc & 1) != 0;
        Volatile.Write(ref _cc, value);
        if ((value & 1) != 0 && !wasEnabled)
            Volatile.Write(ref _csts, StartAdmin() ? Ready : Fatal);
        else if ((value & 1) == 0)
            Stop();
        if ((value & 0xC000) != 0)
            Volatile.Write(ref _csts, _csts | ShutdownComplete);
    }

    private void Stop()
    {
        for (int i = 0; i < _pairs.Length; i++)
        {
            NullQueuePair? pair = _pairs[i];
            _pairs[i] = null;
            pair?.Dispose();
        }

        foreach ((DmaWindow window, _) in _completionQueues.Values)
            window.Dispose();
        _completionQueues.Clear();
        Volatile.Write(ref _csts, 0);
    }

    private void Fail(string problem)
    {
        lock (_problems)
        {
            if (_problems.Count < 100)
                _problems.Add(problem);
        }

        Volatile.Write(ref _csts, _csts | Fatal);
    }
}
