using DmaBufIo.Block;
using DmaBufIo.Errors;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <content>What the set's worker does with the queue: from a visit of its context, but for opening and waking.</content>
internal sealed partial class MirrorQueue
{
    private long _closedStart; // no write to this range goes out
    private long _closedEnd;
    private bool _isRemoved;  // the set is: nothing goes out

    /// <summary>Tells whoever sleeps until the queue has something: it may have room.</summary>
    internal void Wake() => _handler?.Invoke();

    /// <summary>Opens a queue on a member that joins. Not in a visit; may sleep.</summary>
    internal MemberQueue OpenMember(int index, BlockDevice device)
    {
        var queue = new MemberQueue(index, device, Context, _parts, _depth);
        if (_handler is { } handler)
            queue.TryEnableInterrupts(handler);
        return queue;
    }

    /// <summary>A member joins: it gets all writes from now on.</summary>
    internal void Install(MemberQueue queue)
    {
        Enlist(queue);
        _states[queue.Member] = MemberState.Rebuilding;
        uint bit = 1U << queue.Member;
        _settled &= ~bit;
        _unrecorded &= ~bit;

        // What failed on the one before was seen to when that was dropped; the new one gets it by copying, and nobody will settle it again.
        foreach (ref Parent parent in _parents.AsSpan())
            parent.Failed &= ~bit;
    }

    /// <summary>Takes out the queues of members that were dropped and have nothing under way any more. The caller closes them, not in a visit.</summary>
    internal void TakeIdle(List<MemberQueue> idle)
    {
        for (int i = _queues.Count - 1; i >= 0; i--)
        {
            MemberQueue queue = _queues[i];
            if (queue.InFlight != 0 || ReferenceEquals(_current[queue.Member], queue))
                continue;
            _queues.RemoveAt(i);
            _places[queue.Place] = null;
            idle.Add(queue);
        }
    }

    /// <summary>Members that got what they lacked are read from now on.</summary>
    internal void LookAtStates()
    {
        MirrorMember[] members = _set.Copies;
        for (int i = 0; i < members.Length; i++)
        {
            if (_states[i] == MemberState.Rebuilding && members[i].State == MemberState.InSync)
                _states[i] = MemberState.InSync;
        }
    }

    /// <summary>The set drops a member: nothing is read from it any more, by any queue, before the first write without it is acknowledged.</summary>
    internal void Leave(int member) => _states[member] = MemberState.Missing;

    /// <summary>The set has seen to a failure: writes that wait for that end.</summary>
    /// <param name="member">Who failed.</param>
    /// <param name="isDropped">False: it is the last one and was kept.</param>
    /// <param name="isRecorded">The other members' superblocks say so.</param>
    internal void Settle(int member, bool isDropped, bool isRecorded)
    {
        uint bit = 1U << member;
        if (isDropped)
        {
            _states[member] = MemberState.Missing;
            _current[member] = null; // what it has under way still ends
            _unrecorded |= bit;
            if (isRecorded)
            {
                // Superblocks tell of all members.
                _settled |= _unrecorded;
                _unrecorded = 0;
            }
        }
        else
        {
            _states[member] = MemberState.InSync;
        }

        for (int i = 0; i < _parents.Length; i++)
        {
            ref Parent parent = ref _parents[i];
            if ((parent.Failed & bit) == 0)
                continue;
            parent.IsLost |= !isDropped || !isRecorded;
            if (!parent.IsHeld)
                continue; // it has parts under way
            if (parent.IsLost)
                End(new BioHandle(i), Errno.EIO);
            else if ((parent.Failed & ~_settled) == 0)
                End(new BioHandle(i), Errno.Ok);
        }
    }

    /// <summary>The set was removed: what comes ends with <c>ENODEV</c>.</summary>
    /// <returns>True when nothing is under way any more.</returns>
    internal bool EndAll()
    {
        _isRemoved = true;
        Poll(int.MaxValue); // the owner may be idle
        return Array.TrueForAll(_parents, static p => p.Pending == 0 && !p.IsHeld);
    }

    /// <summary>Keeps writes out of a range.</summary>
    /// <returns>True when none is under way there.</returns>
    internal bool CloseRange(long start, long end)
    {
        _closedStart = start;
        _closedEnd = end;
        Poll(int.MaxValue); // the owner may be idle
        for (int i = 0; i < _parents.Length; i++)
        {
            if (IsWriting(i) && OffsetOf(i) < end && OffsetOf(i) + _bios[new BioHandle(i)].Size > start)
                return false;
        }

        return true;
    }

    /// <summary>Lets writes in again.</summary>
    internal void OpenRange()
    {
        _closedStart = 0;
        _closedEnd = 0;
    }

    /// <summary>Marks the regions to which writes are under way.</summary>
    internal void MarkWritten(byte[] regions)
    {
        for (int i = 0; i < _parents.Length; i++)
        {
            if (!IsWriting(i))
                continue;
            long last = (OffsetOf(i) + _bios[new BioHandle(i)].Size - 1) / _set.RegionSize;
            for (long region = OffsetOf(i) / _set.RegionSize; region <= last; region++)
                regions[region] = 1;
        }
    }

    private bool IsWriting(int bio) => (_parents[bio].Pending != 0 || _parents[bio].IsHeld) && _bios[new BioHandle(bio)].Operation == BioOperation.Write;

    private long OffsetOf(int bio) => _bios[new BioHandle(bio)].Sector << 9;
}
