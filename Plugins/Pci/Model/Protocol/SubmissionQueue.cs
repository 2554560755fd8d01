namespace DmaBufIo.Pci.Model.Protocol;

/// <summary>A submission queue as the controller sees it. Touched with the engine's lock held.</summary>
internal sealed class SubmissionQueue(int id, ulong address, int size, CompletionQueue completions)
{
    private uint _lastDoorbell;
    private int _tail;

    internal int Id => id;

    /// <summary>Entries; one of them always stays empty.</summary>
    internal int Size => size;

    /// <summary>Where its commands complete.</summary>
    internal CompletionQueue Completions => completions;

    /// <summary>Next entry to execute; completions report it.</summary>
    internal int Head { get; private set; }

    /// <summary>Entries the host has announced and that were not executed.</summary>
    internal int Pending => _tail >= Head ? _tail - Head : _tail - Head + size;

    /// <summary>Pending entries up to the ring's end: they can be fetched by one DMA.</summary>
    internal int PendingContiguous => _tail >= Head ? _tail - Head : size - Head;

    /// <summary>Device address of the next entry to execute.</summary>
    internal ulong HeadAddress => address + (ulong)Head * NvmeCommand.Size;

    /// <summary>Takes over the tail doorbell.</summary>
    /// <returns>False when the value is no entry or overtakes the head; the tail stays then.</returns>
    internal bool TryMoveTail(uint doorbell)
    {
        if (doorbell == _lastDoorbell)
            return true;
        _lastDoorbell = doorbell;
        if (doorbell >= (uint)size)
            return false;
        int tail = (int)doorbell;
        int added = tail >= _tail ? tail - _tail : tail - _tail + size;
        if (added > size - 1 - Pending)
            return false;
        _tail = tail;
        return true;
    }

    /// <summary>Counts an entry as taken.</summary>
    internal void MoveHead() => Head = Head + 1 == size ? 0 : Head + 1;
}
