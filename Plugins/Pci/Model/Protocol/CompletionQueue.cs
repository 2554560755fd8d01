namespace DmaBufIo.Pci.Model.Protocol;

/// <summary>A completion queue as the controller sees it. Touched with the engine's lock held.</summary>
internal sealed class CompletionQueue(int id, ulong address, int size, bool interruptsEnabled, int vector)
{
    private uint _lastDoorbell;

    internal int Id => id;

    /// <summary>Entries; one of them always stays empty.</summary>
    internal int Size => size;

    internal bool InterruptsEnabled => interruptsEnabled;

    internal int Vector => vector;

    /// <summary>Submission queues that complete here.</summary>
    internal int Users { get; set; }

    /// <summary>An entry was posted and its interrupt not sent.</summary>
    internal bool InterruptDue { get; set; }

    /// <summary>The phase of the entries being posted now; inverted at each wrap.</summary>
    internal int Phase { get; private set; } = 1;

    /// <summary>Where the next entry goes.</summary>
    internal int Tail { get; private set; }

    /// <summary>First entry the host has not consumed, as far as its doorbell says.</summary>
    internal int Head { get; private set; }

    /// <summary>Entries that may be posted without overrunning the host.</summary>
    internal int Free => size - 1 - Used;

    /// <summary>Device address of the next entry.</summary>
    internal ulong TailAddress => address + (ulong)Tail * CompletionMover.EntrySize;

    private int Used => Tail >= Head ? Tail - Head : Tail - Head + size;

    /// <summary>Takes over the head doorbell.</summary>
    /// <returns>False when the value is no entry, or says that more was consumed than was posted; the head stays then.</returns>
    internal bool TryMoveHead(uint doorbell)
    {
        if (doorbell == _lastDoorbell)
            return true;
        _lastDoorbell = doorbell;
        if (doorbell >= (uint)size)
            return false;
        int head = (int)doorbell;
        int consumed = head >= Head ? head - Head : head - Head + size;
        if (consumed > Used)
            return false;
        Head = head;
        return true;
    }

    /// <summary>Counts an entry as posted.</summary>
    internal void MoveTail()
    {
        if (++Tail != size)
            return;
        Tail = 0;
        Phase ^= 1;
    }
}
