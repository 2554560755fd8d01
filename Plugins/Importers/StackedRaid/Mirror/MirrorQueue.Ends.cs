using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <content>What follows when parts end.</content>
internal sealed partial class MirrorQueue
{
    // Resets that a part survives; a member that is reset more often while it is asked has failed.
    private const int MostTries = 16;

    private uint _settled;    // members whose failure the set has recorded
    private uint _unrecorded; // members that were dropped, and nobody could be told

    void IBioOwner.BioEnded(BioHandle bio) => ((IBioOwner)this).BiosEnded(new ReadOnlySpan<BioHandle>(in bio));

    [HotPath]
    void IBioOwner.BiosEnded(ReadOnlySpan<BioHandle> bios)
    {
        foreach (BioHandle part in bios)
        {
            ref readonly Bio ended = ref _parts[part];
            long cookie = ended.Cookie;
            MemberQueue queue = _places[Cookie.QueueOf(cookie)]!;
            queue.Ended();
            BioHandle bio = PartCookie.ParentOf(cookie);
            ref Parent parent = ref _parents[bio.Index];
            if (ended.Status != Errno.Ok)
            {
                if (GoesOn(part, queue, bio, ref parent))
                    continue;
            }
            else
            {
                parent.IsGood |= Cookie.WasInSync(cookie);
                _parts.Release(part);
            }

            if (--parent.Pending == 0)
                Finish(bio, ref parent);
        }
    }

    /// <summary>A part has failed.</summary>
    /// <returns>True when another try was made in its place.</returns>
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private bool GoesOn(BioHandle part, MemberQueue queue, BioHandle bio, ref Parent parent)
    {
        ref Bio failed = ref _parts[part];
        int member = queue.Member;
        bool isCurrent = ReferenceEquals(_current[member], queue) && _states[member] != MemberState.Missing;
        if (failed.Status == Errno.ECANCELED && isCurrent && Cookie.TriesOf(failed.Cookie) < MostTries)
        {
            failed.Cookie += Cookie.Try;
            _parts.Rearm(part);
            queue.Add(part);
            return true;
        }

        DmaBufIoDiagnostics.Report(new MemberFault(_set.Name, _set.LabelOf(queue.Device), failed.Status, failed.Sector << 9, failed.Size));
        Errno status = failed.Status;
        bool isRead = failed.Operation == BioOperation.Read;
        _parts.Release(part);
        if (parent.Status == Errno.Ok)
            parent.Status = status;

        // On a device that was replaced meanwhile it does not matter: the region is in the record, and the new one gets it by copying.
        if (ReferenceEquals(_current[member], queue))
            parent.Failed |= 1U << member;
        if (isCurrent && (_states[member] != MemberState.InSync || HasAnother(member)))
            DropHere(member);
        else
            parent.IsLost |= isCurrent; // the last member is kept: what only a member holds that is out of step is lost
        if (!isRead)
            return false;
        int other = ChooseReader(bio, parent.Tried);
        if (other < 0)
            return false;
        parent.Tried |= 1U << other;
        _current[other]!.Add(TakePart(bio, other, _current[other]!));
        return true;
    }

    private void Finish(BioHandle bio, ref Parent parent)
    {
        if (_bios[bio].Operation == BioOperation.Read)
        {
            End(bio, parent.IsGood ? Errno.Ok : parent.Status);
        }
        else if (!parent.IsGood)
        {
            End(bio, parent.Status == Errno.Ok ? Errno.EIO : parent.Status);
        }
        else if (parent.IsLost || _unrecorded != 0)
        {
            EndUnrecorded(bio);
        }
        else if ((parent.Failed & ~_settled) != 0)
        {
            // After a crash the member that lacks it must not be taken for one that has it.
            parent.IsHeld = true;
        }
        else
        {
            End(bio, Errno.Ok);
        }
    }

    // After a crash a member that was dropped would be taken for one that is in step, and what only the others have would be lost: nothing is acknowledged until somebody could be
    // told. The worker tries again.
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void EndUnrecorded(BioHandle bio)
    {
        End(bio, Errno.EIO);
        if (_unrecorded != 0)
            _set.ReportFailure(_set.Copies[System.Numerics.BitOperations.TrailingZeroCount(_unrecorded)]);
    }

    private void End(BioHandle bio, Errno status)
    {
        _parents[bio.Index] = default;
        _bios.End(bio, status);
        _ended++;
    }

    private void DropHere(int member)
    {
        _states[member] = MemberState.Missing;
        _set.ReportFailure(_set.Copies[member]);
    }

    private bool HasAnother(int member)
    {
        for (int i = 0; i < _states.Length; i++)
        {
            if (i != member && _states[i] == MemberState.InSync)
                return true;
        }

        return false;
    }

    /// <summary>Members without a part in the map were removed before it was made.</summary>
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private uint WithoutGone(uint targets, uint gone)
    {
        for (int i = 0; i < _states.Length; i++)
        {
            if ((gone & (1U << i)) != 0 && (_states[i] != MemberState.InSync || HasAnother(i)))
                DropHere(i);
        }

        return targets;
    }
}
