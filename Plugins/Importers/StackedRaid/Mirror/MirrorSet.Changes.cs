using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Metadata;
using DmaBufIo.Sync;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <content>Members that fail, and members that come back or are replaced.</content>
internal sealed partial class MirrorSet
{
    private readonly MirrorMember?[] _failing; // reported by queues and tokens, not seen to yet
    private bool _isRecorded = true;           // the superblocks of those that are there say who is missing. Guarded by control
    private readonly List<MirrorStore.Member> _left = []; // the set's own access to devices that were dropped. Guarded by control
    private WorkQueue? _closers;                          // closes it: a device that does not obey may be waited for, and the worker has other things to do

    /// <summary>The members' superblocks say who is missing. Control held.</summary>
    internal bool IsRecorded => _isRecorded;

    /// <summary>A member failed: the worker drops it. Does not sleep; callable on the request path and with a reservation lock held.</summary>
    internal void ReportFailure(MirrorMember member)
    {
        MirrorMember[] members = Copies;
        int index = Array.IndexOf(members, member);
        if (index < 0)
            return; // it was replaced meanwhile
        Volatile.Write(ref _failing[index], member);
        Tell();
    }

    /// <inheritdoc/>
    public void Fail(int member)
    {
        MirrorMember failed = MemberAt(member);
        using (TakeControl())
        {
            ThrowIfRemoved();
            if (failed.State == MemberState.InSync && !HasAnother(failed))
                throw Refused(Errno.EBUSY, failed, "it is the last one that holds everything", "Give the set another member first");
            Drop(member);
        }
    }

    /// <inheritdoc/>
    public void Replace(int member, BlockDevice device)
    {
        // A device that comes back may have no queue left before what it had is closed.
        Volatile.Read(ref _closers)?.Flush();
        MirrorMember joining;
        using (TakeControl())
            joining = Join(member, device);

        // Requests go on meanwhile, with maps that may be without the new member; their writes to it are made up for by the copying, which comes after. No lock is
        // held here: the holder of a reservation lock that unmapping needs may wait for this set's worker (T15).
        foreach (MirrorTokenDriver token in Tokens())
            token.Renew();
        CloseIdleQueues();
        using (TakeControl())
        {
            ThrowIfRemoved();
            if (!ReferenceEquals(_members[member], joining) || joining.State != MemberState.Rebuilding)
                throw Refused(Errno.EIO, joining, "it failed while it was being taken in", "See what the device itself says");
            InstallEverywhere(member, device);

            // A copying that was under way has passed the new member by, and writes have until now.
            joining.IsJoining = false;
            NoteLacks(joining);
            WriteIntents();
            BeginCopying();
        }
    }

    /// <summary>
    /// The queues that dropped members have left: devices have few. Here and not where a member is dropped: a device that does not obey may be waited for, and the worker has other
    /// things to do. No lock is held for the same reason.
    /// </summary>
    private void CloseIdleQueues()
    {
        var idle = new List<MemberQueue>();
        using (TakeControl())
            VisitAll(q => q.TakeIdle(idle));
        foreach (MemberQueue queue in idle)
            queue.Dispose();
    }

    /// <summary>On all queues or on none: a member that gets the writes of some only would be taken for one that has them all.</summary>
    private void InstallEverywhere(int member, BlockDevice device)
    {
        var opened = new List<(MirrorQueue Queue, MemberQueue Member)>();
        try
        {
            foreach (MirrorQueue queue in Queues())
                opened.Add((queue, queue.OpenMember(member, device)));
        }
        catch
        {
            foreach ((_, MemberQueue queue) in opened)
                queue.Dispose();
            Drop(member);
            throw;
        }

        foreach ((MirrorQueue queue, MemberQueue joins) in opened)
            queue.Context.Visit(() => queue.Install(joins));
    }

    private MirrorMember Join(int index, BlockDevice device)
    {
        ThrowIfRemoved();

        // Writes may be waiting for what was reported.
        SeeToFailures();
        MirrorMember old = MemberAt(index);
        if (old.State != MemberState.Missing)
            throw Refused(Errno.EBUSY, old, "it is not lost", "Drop it first");
        if (_readOnly)
            throw Refused(Errno.EROFS, old, "the set was opened for reading only", "Open it for writing");
        if (Array.Exists(_members, m => m.State != MemberState.Missing && ReferenceEquals(m.Device, device)))
            throw Refused(Errno.EINVAL, old, $"{device.Name} is a member already", "Give another device");
        if (MetadataLayout.TailOf(device.Capacity) < Capacity || device.Limits.Stack(Limits) != Limits)
            throw Refused(Errno.EINVAL, old, $"{device.Name} is too small, or takes less at once than the set", $"Give a device of {Capacity + MetadataLayout.TailSize} bytes or more, of the same kind");
        _store.Attach(device);
        MirrorMember joining;
        try
        {
            joining = Judge(index, device, old);
        }
        catch
        {
            Detach(device);
            throw;
        }

        MirrorMember[] members = [.. _members];
        members[index] = joining;
        Volatile.Write(ref _members, members);
        joining.IsJoining = true;
        NoteLacks(joining);
        if (WriteIntents() && WriteSuperblocks() && joining.State == MemberState.Rebuilding)
            return joining;
        Drop(index);
        throw Refused(Errno.EIO, joining, "the metadata could not be written", "See what the devices themselves say");
    }

    /// <summary>One that held everything when it was lost lacks what was written since: those regions are in the record, which is not cleared while a member is missing.</summary>
    private MirrorMember Judge(int index, BlockDevice device, MirrorMember old)
    {
        // A device keeps its name, whoever gave it one.
        string label = ReferenceEquals(device, old.Device) ? old.Label : device.Name;
        Superblock? found = AssemblyPlan.ReadSuperblock(_store, device, label);
        if (found is not null && found.Set != _id)
            throw Refused(Errno.EINVAL, old, $"{device.Name} belongs to another set ({found.Set})", "Clear its last 64 KiB if it is to be used here");
        Standing standing = MemberHistory.Of(found, index, SuperblockOf(index));
        if (standing == Standing.WentOn)
            throw Refused(Errno.EINVAL, old, $"{device.Name} has gone on without this set: it may hold writes that are nowhere else", "Clear its last 64 KiB if they are not needed");
        bool returns = standing == Standing.LacksSome;
        return new MirrorMember(device, label, returns ? old.Id : Guid.NewGuid(), MemberState.Rebuilding)
        {
            LacksEverything = !returns,
            Told = returns ? found!.Sequence : 0,
            Place = found?.Place ?? -1,
        };
    }

    /// <summary>The set gives up its own access to a device. Control held; what takes time comes later.</summary>
    private void Detach(BlockDevice device)
    {
        if (_store.TakeOut(device) is not { } member)
            return;
        _left.Add(member);
        if (_closers is null)
            Volatile.Write(ref _closers, new WorkQueue($"dmabufio-{Name} closing", 1));
        _closers.Queue(_closing);
    }

    private void CloseLeft()
    {
        MirrorStore.Member[] left;
        using (TakeControl())
        {
            left = [.. _left];
            _left.Clear();
        }

        foreach (MirrorStore.Member member in left)
            member.Dispose();
    }

    private void NoteLacks(MirrorMember joining)
    {
        if (joining.LacksEverything)
            Array.Fill(_needsSync, (byte)1);
        for (int i = 0; i < _dirty.Length; i++)
            _needsSync[i] |= _dirty[i];
    }

    /// <summary>Drops what was reported. Control held.</summary>
    private void SeeToFailures()
    {
        for (int i = 0; i < _failing.Length; i++)
        {
            if (Interlocked.Exchange(ref _failing[i], null) is not { } failed || !ReferenceEquals(failed, _members[i]))
                continue;
            if (failed.State == MemberState.InSync && !HasAnother(failed))
            {
                // Two queues have each dropped another one of the last two; what the last one refused is lost with the other.
                int kept = i;
                VisitAll(q => q.Settle(kept, isDropped: false, isRecorded: false));
                continue;
            }

            Drop(i);
        }
    }

    /// <summary>Control held.</summary>
    private void Drop(int index)
    {
        if (_members[index].State != MemberState.Missing)
        {
            _members[index].State = MemberState.Missing;
            _isRecorded = false;
        }

        VisitAll(q => q.Leave(index));
        bool recorded = _readOnly || _isRecorded || WriteSuperblocks();
        VisitAll(q => q.Settle(index, isDropped: true, recorded));
        Detach(_members[index].Device);
        _changed.WakeAll();
    }

    /// <summary>Tells all members that are there how they all stand; those that cannot be told are dropped, and the others are told that. Control held.</summary>
    /// <returns>False when nobody who holds everything is left who could be told.</returns>
    private bool WriteSuperblocks()
    {
        while (true)
        {
            _sequence++;
            Superblock all = SuperblockOf(0);
            int told = 0;
            bool again = false;

            // Who holds everything comes first: the others' superblocks count on it.
            foreach (MemberState state in new[] { MemberState.InSync, MemberState.Rebuilding })
            {
                if (state == MemberState.Rebuilding && told == 0)
                    break;
                for (int i = 0; i < all.States.Count; i++)
                {
                    if (all.States[i] != state)
                        continue;
                    if (TryTell(_members[i], all with { Index = i }))
                        told++;
                    else
                        again |= GiveUp(i);
                }
            }

            if (!again)
            {
                _isRecorded = told != 0;
                return _isRecorded;
            }
        }
    }

    /// <summary>What the superblock of a member says now. Control held.</summary>
    private Superblock SuperblockOf(int index) => new()
    {
        Set = _id,
        Sequence = _sequence,
        Index = index,
        DataSize = Capacity,
        RegionSize = RegionSize,
        Members = [.. _members.Select(static m => m.Id)],
        States = [.. _members.Select(static m => m.State)],
        Told = [.. _members.Select(static m => m.Told)],
    };

    private bool TryTell(MirrorMember member, Superblock superblock)
    {
        // Not over its newest one: a torn write must leave that.
        ulong place = member.Place < 0 ? superblock.Sequence & 1 : 1UL - (ulong)member.Place;
        superblock.Write(_store.Block);
        if (!TryWrite(member, MetadataLayout.SuperblockAt(member.Tail, place)))
            return false;
        member.Place = (int)place;
        member.Told = superblock.Sequence;
        return true;
    }

    private bool TryWrite(MirrorMember member, long offset)
    {
        Errno status = _store.WriteMetadata(member.Device, offset);
        if (status == Errno.Ok)
            return TryFlush(member);
        DmaBufIoDiagnostics.Report(new MemberFault(Name, member.Label, status, offset, MetadataLayout.BlockSize));
        return false;
    }

    /// <summary>Makes what a member has durable. A failure is reported. Control held.</summary>
    private bool TryFlush(MirrorMember member)
    {
        Errno status = _store.Flush(member.Device);
        if (status == Errno.Ok)
            return true;
        DmaBufIoDiagnostics.Report(new MemberFault(Name, member.Label, status, 0, 0));
        return false;
    }

    /// <summary>A member cannot be told: it is dropped, unless it is the last.</summary>
    /// <returns>True when the others must be told.</returns>
    private bool GiveUp(int index)
    {
        MirrorMember member = _members[index];
        if (member.State == MemberState.InSync && !HasAnother(member))
            return false;
        member.State = MemberState.Missing;
        _isRecorded = false;

        // The queues hear of it when the worker comes by.
        Volatile.Write(ref _failing[index], member);
        Tell();
        return true;
    }

    /// <summary>What the user calls the device of a member.</summary>
    internal string LabelOf(BlockDevice device) => Array.Find(Copies, m => ReferenceEquals(m.Device, device))?.Label ?? device.Name;

    private bool HasAnother(MirrorMember member) => Array.Exists(_members, m => m.State == MemberState.InSync && !ReferenceEquals(m, member));

    private MirrorMember MemberAt(int index) => (uint)index < (uint)_members.Length
        ? _members[index]
        : throw new DmaBufIoException(Errno.EINVAL, StackedRaidPlugin.PluginName, Name, $"there is no member {index}", $"Members are numbered from 0 to {_members.Length - 1}");

    private DmaBufIoException Refused(Errno errno, MirrorMember member, string problem, string remedy) =>
        new(errno, StackedRaidPlugin.PluginName, $"{Name}, member {member.Label}", problem, remedy);
}
