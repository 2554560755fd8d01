using DmaBufIo.Importers.StackedRaid.Metadata;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <content>The record of intents, and the worker's step.</content>
internal sealed partial class MirrorSet
{
    // After a crash so many regions are copied at most, and so often at least a write finds its region in the record already.
    private const int MostDirty = 128;

    // Who writes one region mostly goes on to the next.
    private const int Ahead = 3;

    private readonly byte[] _dirty;  // by region: in the record on all members, writes may go out. Written by the worker, read by queues.
    private const byte RegionQuiet = 0;
    private const byte RegionWanted = 1;  // a queue waits for it
    private const byte RegionRefused = 2; // it could not be recorded, and no queue has heard of it yet

    private readonly byte[] _wanted; // by region. RegionWanted: set by queues, cleared by the worker after it has set _dirty. RegionRefused: set by the worker, cleared by the queue whose write ends for it.
    private ulong _intents;          // number of the last record

    /// <summary>Whether a write may go out. If not, the worker is told to make it possible. Does not sleep.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="isRefused">The worker has tried, and no member that holds everything could be told: the write ends with an error.</param>
    [Diagnostics.HotPath]
    internal bool MayWrite(long offset, long length, out bool isRefused)
    {
        int last = (int)((offset + length - 1) / RegionSize);
        bool may = true;
        isRefused = false;
        for (int region = (int)(offset / RegionSize); region <= last; region++)
        {
            if (Volatile.Read(ref _dirty[region]) != 0)
                continue;
            may = false;
            isRefused |= !Want(region);
        }

        return may;
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private bool Want(int region)
    {
        switch (Volatile.Read(ref _wanted[region]))
        {
            case RegionWanted:
                return true;
            case RegionRefused:
                Volatile.Write(ref _wanted[region], RegionQuiet);
                return false;
            default:
                Volatile.Write(ref _wanted[region], RegionWanted);
                Tell();
                return true;
        }
    }

    private void Tell()
    {
        if (!Volatile.Read(ref _disposed))
            _workers.Queue(_work);
    }

    /// <summary>One step of the worker.</summary>
    /// <returns>True when there is more to do.</returns>
    private bool Step()
    {
        using Control control = TakeControl();
        if (IsClosed)
            return false; // who removes it sees to what is left
        SeeToFailures();
        RecordIntents();
        return CopySome();
    }

    private void RecordIntents()
    {
        var wanted = new List<int>();
        for (int i = 0; i < _wanted.Length; i++)
        {
            if (Volatile.Read(ref _wanted[i]) == RegionWanted)
                wanted.Add(i);
        }

        if (wanted.Count == 0)
            return;
        if (_dirty.Count(static d => d != 0) > MostDirty)
            CleanIntents(keepWanted: true);
        int[] recorded = [.. wanted.SelectMany(static r => Enumerable.Range(r, Ahead + 1)).Where(r => r < _dirty.Length && _dirty[r] == 0).Distinct()];
        var record = (byte[])_dirty.Clone();
        foreach (int region in recorded)
            record[region] = 1;
        bool isRecorded = WriteIntents(record);

        // When nobody could be told, the writes that wait end with an error, and the next one has it tried again.
        foreach (int region in recorded.Where(_ => isRecorded))
            Volatile.Write(ref _dirty[region], 1);
        foreach (int region in wanted)
            Volatile.Write(ref _wanted[region], isRecorded || _dirty[region] != 0 ? RegionQuiet : RegionRefused);
        if (isRecorded)
            ForgetRefusals();
        foreach (MirrorQueue queue in Queues())
            queue.Wake();
    }

    /// <summary>Members can be told again. A queue that was closed has not heard of a refusal, and the next write there would end for it; one that has not heard of it yet asks again.</summary>
    private void ForgetRefusals()
    {
        for (int i = 0; i < _wanted.Length; i++)
            Interlocked.CompareExchange(ref _wanted[i], RegionQuiet, RegionRefused);
    }

    /// <summary>Takes regions out of the record that nobody writes and whose copies are the same. Control held.</summary>
    private void CleanIntents(bool keepWanted)
    {
        // While a member is missing the record tells what it lacks.
        if (!Array.TrueForAll(_members, static m => m.State == MemberState.InSync))
            return;
        var cleaned = new byte[_dirty.Length];
        for (int i = 0; i < cleaned.Length; i++)
        {
            bool keep = _needsSync[i] != 0 || (keepWanted && (_wanted[i] == RegionWanted || (i > 0 && _wanted[i - 1] == RegionWanted)));
            if (_dirty[i] == 0 || keep)
                continue;
            cleaned[i] = 1;
            Volatile.Write(ref _dirty[i], 0);
        }

        // Who visits a context comes after its last batch, and before its next, which finds the regions cleaned. Writes that are under way keep theirs.
        var inUse = new byte[_dirty.Length];
        VisitAll(q => q.MarkWritten(inUse));
        bool any = false;
        for (int i = 0; i < cleaned.Length; i++)
        {
            if (cleaned[i] != 0 && inUse[i] != 0)
                Volatile.Write(ref _dirty[i], 1);
            any |= cleaned[i] != 0 && inUse[i] == 0;
        }

        // What was written there must be durable everywhere before the record forgets it.
        if (any && FlushAll())
        {
            WriteIntents(_dirty);
            return;
        }

        for (int i = 0; i < cleaned.Length; i++)
        {
            if (cleaned[i] != 0)
                Volatile.Write(ref _dirty[i], 1);
        }
    }

    /// <summary>Members that cannot make durable what they have are dropped. Control held.</summary>
    private bool FlushAll()
    {
        bool all = true;
        for (int i = 0; i < _members.Length; i++)
        {
            if (_members[i].State == MemberState.Missing || TryFlush(_members[i]))
                continue;
            all = false;
            GiveUp(i);
        }

        return all;
    }

    private bool WriteIntents() => WriteIntents(_dirty);

    /// <summary>Writes a record to all members that are there. Control held.</summary>
    /// <returns>False when no member that holds everything could be told.</returns>
    private bool WriteIntents(byte[] dirty)
    {
        var record = (byte[])dirty.Clone();
        for (int i = 0; i < record.Length; i++)
            record[i] |= _needsSync[i];
        _intents++;
        bool dropped = false;
        int told = 0;
        MirrorMember[] members = _members;
        for (int i = 0; i < members.Length; i++)
        {
            if (members[i].State == MemberState.Missing)
                continue;
            IntentRecord.Write(_store.Block, _id, _intents, record);
            if (TryWrite(members[i], MetadataLayout.IntentsAt(members[i].Tail, _intents)))
                told += members[i].State == MemberState.InSync ? 1 : 0;
            else
                dropped |= GiveUp(i);
        }

        return told != 0 && (!dropped || WriteSuperblocks());
    }
}
