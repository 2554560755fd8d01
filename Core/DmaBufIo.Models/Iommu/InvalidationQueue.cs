using System.Runtime.InteropServices;
using DmaBufIo.Sync;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// The ring through which the host tells the IOMMU what its IOTLB must forget. The host puts invalidations and, behind them, a wait;
/// the device's side executes in order and acknowledges by writing the wait's number to the status word.
/// </summary>
/// <remarks>
/// Protocol. Ring, head and tail belong to whoever holds the domain's gate; only the status word is read without it. It is written
/// (release) when everything before the wait has been executed under the gate, so a reader (acquire) that finds its number there knows
/// that no IOTLB entry is left and, because a device moves its pieces under the same gate, that no access through one is under way.
/// Each hold of the gate that puts an invalidation puts a wait behind it before it ends.
/// </remarks>
internal sealed class InvalidationQueue
{
    /// <summary>Entries: one page of 128-bit descriptors, the smallest queue of VT-d.</summary>
    public const int Capacity = 256;

    private readonly InvalidationDescriptor[] _ring = new InvalidationDescriptor[Capacity];
    private readonly WaitQueue _sleepers = new();
    private readonly DomainCounters _counters;
    private readonly Iotlb _iotlb;
    private ulong _head;
    private ulong _tail;
    private long _lastWait;
    private long _unacknowledged;
    private StatusWord _status;
    private int _sleeping;

    public InvalidationQueue(Iotlb iotlb, DomainCounters counters)
    {
        _iotlb = iotlb;
        _counters = counters;
    }

    /// <summary>Number of the last wait that was acknowledged. Any thread.</summary>
    public long Acknowledged => Volatile.Read(ref _status.Value);

    /// <summary>The number that the next wait will have. Gate held.</summary>
    public long NextWait => _lastWait + 1;

    /// <summary>True when something is queued. Gate held.</summary>
    public bool HasPending => _head != _tail;

    /// <summary>Asks for the entries of a range to be dropped. Gate held.</summary>
    public void PutRange(ulong start, ulong end)
    {
        Put(new InvalidationDescriptor(InvalidationKind.Range, start, end));
        _counters.Invalidations++;
    }

    /// <summary>Asks for all entries to be dropped. Gate held.</summary>
    public void PutGlobal()
    {
        Put(new InvalidationDescriptor(InvalidationKind.Global, 0, 0));
        _counters.Flushes++;
    }

    /// <summary>Asks for an acknowledgement of all that was queued before. Gate held.</summary>
    /// <returns>The number that <see cref="Acknowledged"/> will reach.</returns>
    public long PutWait()
    {
        Put(new InvalidationDescriptor(InvalidationKind.Wait, (ulong)++_lastWait, 0));
        return _lastWait;
    }

    /// <summary>Executes all that is queued. Gate held; this is the IOMMU's side, whichever thread lends itself to it.</summary>
    public void Execute()
    {
        for (; _head != _tail; _head++)
        {
            ref readonly InvalidationDescriptor entry = ref _ring[_head % Capacity];
            switch (entry.Kind)
            {
                case InvalidationKind.Range:
                    _iotlb.Invalidate(entry.Start, entry.End);
                    _unacknowledged++;
                    break;
                case InvalidationKind.Global:
                    _iotlb.Flush();
                    break;
                default:
                    _counters.InvalidationWaits++;
                    _counters.AcknowledgedInvalidations += _unacknowledged;
                    _unacknowledged = 0;
                    Acknowledge((long)entry.Start);
                    break;
            }
        }
    }

    /// <summary>Sleeps until a wait was acknowledged. Gate not held; the thread may sleep.</summary>
    public void Sleep(long wait, in WaitReason reason)
    {
        // A full fence before the status is read again: either it is seen here, or the acknowledging side sees the sleeper.
        Interlocked.Increment(ref _sleeping);
        try
        {
            _sleepers.Wait(() => Acknowledged >= wait, reason);
        }
        finally
        {
            Interlocked.Decrement(ref _sleeping);
        }
    }

    private void Put(in InvalidationDescriptor entry)
    {
        // The holder of the gate keeps everyone else from making room, so it has to do it itself.
        if (_tail - _head == Capacity)
            Execute();
        _ring[_tail % Capacity] = entry;
        _tail++;
    }

    private void Acknowledge(long wait)
    {
        Volatile.Write(ref _status.Value, wait);
        Interlocked.MemoryBarrier();
        if (_sleeping != 0)
            _sleepers.WakeAll();
    }

    /// <summary>The word that is written on one core and polled on another; on cache lines of its own.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct StatusWord
    {
        [FieldOffset(128)]
        public long Value;
    }
}
