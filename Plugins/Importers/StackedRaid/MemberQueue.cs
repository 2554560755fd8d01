using DmaBufIo.Block;
using DmaBufIo.Io;

namespace DmaBufIo.Importers.StackedRaid;

/// <summary>
/// A set's queue on one member. Parts are gathered and given to the member in batches; those that it has no room for wait here, in order. They belong to bios that have
/// begun (T16): what has not begun is refused by the set instead.
/// </summary>
internal sealed class MemberQueue : IDisposable
{
    private readonly BlockQueue _queue;
    private readonly BioPool _parts;
    private readonly BioHandle[] _waiting;
    private readonly IoCounters _counters;
    private int _count;
    private int _left;

    /// <summary>Opens the queue. May sleep.</summary>
    /// <param name="member">The member's number in the set.</param>
    /// <param name="device">The member.</param>
    /// <param name="context">The owner.</param>
    /// <param name="parts">The pool of the set's queue.</param>
    /// <param name="depth">Parts that may be in flight.</param>
    internal MemberQueue(int member, BlockDevice device, IoContext context, BioPool parts, int depth)
    {
        Member = member;
        Device = device;
        _queue = device.OpenQueue(context, parts, depth);
        _parts = parts;
        _counters = context.Counters;
        _waiting = new BioHandle[parts.Capacity];
    }

    /// <summary>The member's number in the set.</summary>
    internal int Member { get; }

    /// <summary>Its place among the queues of the set's queue, where that names them by number.</summary>
    internal int Place { get; set; }

    /// <summary>The member.</summary>
    internal BlockDevice Device { get; }

    /// <summary>Parts that were given to the member or wait for it, and have not ended.</summary>
    internal int InFlight { get; private set; }

    /// <summary>True when parts wait that the member has had no room for.</summary>
    [Diagnostics.HotPath]
    internal bool HasWaiting => _count != 0;

    /// <summary>Parts that the member takes for certain; 0 when that is not known, or when some wait already.</summary>
    [Diagnostics.HotPath]
    internal int Room => _count == 0 ? _queue.Room : 0;

    /// <summary>Parts that may be added with the certainty that the next <see cref="Push"/> leaves none behind; as of <see cref="Look"/>.</summary>
    [Diagnostics.HotPath]
    internal int Left => _left;

    /// <summary>Asks the member for its room: only this queue's owner makes it less.</summary>
    [Diagnostics.HotPath]
    internal void Look() => _left = Room;

    /// <summary>Adds a part to those that are given to the member next. The pool's capacity bounds what there can be.</summary>
    [Diagnostics.HotPath]
    internal void Add(BioHandle part)
    {
        _waiting[_count++] = part;
        _left--;
        InFlight++;
    }

    /// <summary>Gives the member one part at once: the first of a bio, when it is not known whether there is room.</summary>
    /// <returns>False when there is none; the part stays the caller's.</returns>
    [Diagnostics.HotPath]
    internal bool TryBegin(BioHandle part)
    {
        if (_count != 0 || Give(new ReadOnlySpan<BioHandle>(in part)) == 0)
            return false;
        InFlight++;
        _counters.Parts++;
        return true;
    }

    /// <summary>Gives the member what was added, as far as it has room; the rest waits for the next call.</summary>
    /// <returns>How many parts it took.</returns>
    [Diagnostics.HotPath]
    internal int Push()
    {
        int taken = 0;
        if (_count != 0)
        {
            taken = Give(_waiting.AsSpan(0, _count));
            _count -= taken;
            _counters.Parts += taken;
            if (_count != 0)
                _waiting.AsSpan(taken, _count).CopyTo(_waiting);
        }

        Look();
        return taken;
    }

    /// <summary>A part has ended.</summary>
    [Diagnostics.HotPath]
    internal void Ended() => InFlight--;

    /// <summary>Rings the member's doorbell.</summary>
    [Diagnostics.HotPath]
    internal void Commit() => _queue.Commit();

    /// <summary>Ends the parts that the member has completed.</summary>
    [Diagnostics.HotPath]
    internal int Poll(int max) => InFlight != 0 ? _queue.Poll(max) : 0;

    /// <summary>Asks the member to interrupt.</summary>
    internal bool TryEnableInterrupts(Action handler) => _queue.TryEnableInterrupts(handler);

    /// <summary>Closes the queue; nothing is in flight.</summary>
    public void Dispose() => _queue.Dispose();

    // Parts of a bio that has begun may be with other members: a driver that throws must not make the set throw.
    [Diagnostics.HotPath]
    private int Give(ReadOnlySpan<BioHandle> parts) => _queue.SubmitOrFail(_parts, parts, Device.Name);
}
