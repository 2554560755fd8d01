using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <content>Copying: what members lack, after a crash, a return or a replacement.</content>
internal sealed partial class MirrorSet
{
    private readonly byte[] _needsSync; // by region: the copies may differ. Set and cleared with the control lock held, read by queues.
    private bool _isCopying;
    private int _region;
    private long _within;

    /// <summary>True when the copies of some part of a range may differ: it is read from the first member that holds everything.</summary>
    [Diagnostics.HotPath]
    internal bool MayDiffer(long offset, long length)
    {
        if (!Volatile.Read(ref _isCopying) && !_readOnly)
            return false;
        int last = (int)((offset + length - 1) / RegionSize);
        for (int region = (int)(offset / RegionSize); region <= last; region++)
        {
            if (Volatile.Read(ref _needsSync[region]) != 0)
                return true;
        }

        return false;
    }

    private void BeginCopying()
    {
        _region = 0;
        _within = 0;
        Volatile.Write(ref _isCopying, true);
        Tell();
    }

    /// <summary>Copies one piece. Control held.</summary>
    /// <returns>True when there is more.</returns>
    private bool CopySome()
    {
        if (!_isCopying)
            return false;
        if (_members.Count(static m => m.State != MemberState.Missing) < 2 || !Array.Exists(_members, static m => m.State == MemberState.InSync))
        {
            // Nobody to copy to, or from. What differs is remembered for the member that comes.
            EndCopying();
            return false;
        }

        while (_region < _needsSync.Length && _needsSync[_region] == 0)
        {
            _region++;
            _within = 0;
        }

        if (_region == _needsSync.Length)
        {
            if (Array.IndexOf(_needsSync, (byte)1) < 0)
            {
                Promote();

                // The next crash, and the next member that comes back, are to cost no more than what is written from here on.
                CleanIntents(keepWanted: true);
                EndCopying();
                return false;
            }

            _region = 0;
            return true;
        }

        long start = (_region * RegionSize) + _within;
        int length = (int)Math.Min(Math.Min(MirrorStore.CopySize, RegionSize - _within), Capacity - start);
        if (TryCopy(start, length))
        {
            _within += length;
            if (_within == RegionSize || start + length == Capacity)
                Volatile.Write(ref _needsSync[_region], 0);
        }

        return true;
    }

    /// <summary>Those who got what they lacked hold everything now.</summary>
    private void Promote()
    {
        MirrorMember[] rebuilt = [.. _members.Where(static m => m.State == MemberState.Rebuilding && !m.IsJoining)];
        if (rebuilt.Length == 0)
            return;
        foreach (MirrorMember member in rebuilt)
        {
            // Durable before the superblocks say so.
            if (!TryFlush(member))
                GiveUp(Array.IndexOf(_members, member));
            else
                member.State = MemberState.InSync;
        }

        WriteSuperblocks();
        VisitAll(static q => q.LookAtStates());
    }

    private void EndCopying()
    {
        Volatile.Write(ref _isCopying, false);
        _changed.WakeAll();
    }

    private bool TryCopy(long start, int length)
    {
        // No write to the range may be under way on any member, nor begin: one member could have it before the copy and another after it.
        var spin = default(SpinWait);
        while (true)
        {
            bool quiet = true;
            foreach (MirrorQueue queue in Queues())
                queue.Context.Visit(() => quiet &= queue.CloseRange(start, start + length));
            if (quiet)
                break;

            // They may be waiting for this worker.
            SeeToFailures();
            spin.SpinOnce();
        }

        try
        {
            return TryCopyClosed(start, length);
        }
        finally
        {
            VisitAll(static q => q.OpenRange());
        }
    }

    private bool TryCopyClosed(long start, int length)
    {
        int source = Array.FindIndex(_members, static m => m.State == MemberState.InSync);
        if (source < 0)
            return false;
        Errno status = _store.ReadSource(_members[source].Device, start, length);
        if (status != Errno.Ok)
            return Fault(source, status, start, length);
        for (int i = 0; i < _members.Length; i++)
        {
            MirrorMember member = _members[i];
            if (i == source || member.State == MemberState.Missing || member.IsJoining)
                continue;

            // What is the same need not be written: after a crash nearly everything is.
            status = _store.ReadCopy(member.Device, start, length);
            if (status == Errno.Ok && !_store.Copy(length).SequenceEqual(_store.Source(length)))
                status = _store.WriteCopy(member.Device, start, length);
            if (status != Errno.Ok)
                Fault(i, status, start, length);
        }

        return true;
    }

    private bool Fault(int index, Errno status, long start, int length)
    {
        MirrorMember member = _members[index];
        DmaBufIoDiagnostics.Report(new MemberFault(Name, member.Label, status, start, length));
        if (member.State == MemberState.InSync && !HasAnother(member))
        {
            // Nobody else has it. The copying ends; the members that wait for it stay out of step.
            EndCopying();
            return false;
        }

        Volatile.Write(ref _failing[index], member);
        SeeToFailures();
        return false;
    }
}
