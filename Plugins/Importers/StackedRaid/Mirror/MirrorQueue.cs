using System.Numerics;
using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <summary>A queue of a mirror: reads go to one member, writes and flushes to all.</summary>
/// <remarks>
/// Everything here is used by the context's current owner; the set's worker changes the queue by visiting the context. A part that a member's reset has cancelled is given to it again: the
/// map's addresses are good until the request has ended. A part that failed otherwise ends the member for this queue at once, and for the set when the worker has recorded it. This file holds what
/// the owner does; MirrorQueue.Ends.cs what follows when parts end; MirrorQueue.Visits.cs what the worker does.
/// </remarks>
internal sealed partial class MirrorQueue : BlockQueue, IBioOwner
{
    private const int LargestPool = 1 << 14;

    private readonly MirrorSet _set;
    private readonly BioPool _bios;
    private readonly BioPool _parts;
    private readonly int _owner;
    private readonly int _depth;
    private readonly Parent[] _parents;
    private readonly MemberState[] _states; // by member, as this queue sees them
    private readonly MemberQueue?[] _current; // by member
    private readonly List<MemberQueue> _queues = []; // all that may have parts, also those whose member was dropped
    private readonly List<MemberQueue?> _places = []; // the same, where parts name them
    private Action? _handler;
    private int _ended;
    private int _turn;

    /// <summary>Opens the queue. The set's control lock is held.</summary>
    internal MirrorQueue(MirrorSet set, IoContext context, BioPool bios, int depth)
    {
        _set = set;
        Context = context;
        _bios = bios;
        _depth = depth;
        MirrorMember[] members = set.Copies;
        _parents = new Parent[bios.Capacity];
        _states = [.. members.Select(static m => m.State)];
        _current = new MemberQueue?[members.Length];
        uint missing = 0;
        for (int i = 0; i < members.Length; i++)
            missing |= members[i].State == MemberState.Missing ? 1U << i : 0;
        if (set.IsRecorded)
            _settled = missing;
        else
            _unrecorded = missing;
        _parts = new BioPool(Math.Clamp(Math.Max(depth, 1) * members.Length, 2 * members.Length, LargestPool));
        _owner = _parts.AddOwner(this);
        try
        {
            for (int i = 0; i < members.Length; i++)
            {
                if (members[i].State != MemberState.Missing)
                    OpenAtFirst(i, members[i]);
            }
        }
        catch
        {
            Close();
            throw;
        }
    }

    /// <summary>Whose queue it is.</summary>
    internal IoContext Context { get; }

    /// <inheritdoc/>
    [HotPath]
    public override int Submit(ReadOnlySpan<BioHandle> bios)
    {
        foreach (MemberQueue queue in _queues)
            queue.Look();
        int taken = 0;
        while (taken < bios.Length && TryStart(bios[taken]))
            taken++;
        Push();
        return taken;
    }

    /// <inheritdoc/>
    [HotPath]
    public override void Commit()
    {
        foreach (MemberQueue queue in _queues)
            queue.Commit();
    }

    /// <inheritdoc/>
    [HotPath]
    public override int Poll(int max)
    {
        _ended = 0;
        foreach (MemberQueue queue in _queues)
            queue.Poll(max);
        _parts.Dispatch();

        // A member may end at once what it takes, and what follows from that may wait for another one; no completion would tell of it.
        while (HasWaiting() && Push() != 0)
        {
            Commit();
            _parts.Dispatch();
        }

        return _ended;
    }

    /// <inheritdoc/>
    public override bool TryEnableInterrupts(Action handler)
    {
        _handler = handler;
        return _queues.TrueForAll(q => q.TryEnableInterrupts(handler));
    }

    /// <inheritdoc/>
    public override void Dispose() => _set.Remove(this, Close);

    [HotPath]
    private bool TryStart(BioHandle bio)
    {
        if (_isRemoved)
        {
            _bios.End(bio, Errno.ENODEV);
            return true;
        }

        if (_parts.Free < _current.Length)
            return false;
        ref readonly Bio whole = ref _bios[bio];
        return whole.Operation switch
        {
            BioOperation.Read => TryStartRead(bio),
            BioOperation.Write => TryStartWrite(bio, whole),
            _ => TryStartAll(bio),
        };
    }

    [HotPath]
    private bool TryStartWrite(BioHandle bio, in Bio whole)
    {
        long offset = whole.Sector << 9;
        if (offset < _closedEnd && offset + whole.Size > _closedStart)
            return false;
        if (_set.MayWrite(offset, whole.Size, out bool isRefused))
            return TryStartAll(bio);
        if (isRefused)
            _bios.End(bio, Errno.EIO);
        return isRefused;
    }

    [HotPath]
    private bool TryStartRead(BioHandle bio)
    {
        int member = ChooseReader(bio, tried: 0);
        if (member < 0)
        {
            _bios.End(bio, Errno.EIO);
            return true;
        }

        MemberQueue queue = _current[member]!;
        BioHandle part = TakePart(bio, member, queue);
        if (!TryGive(queue, part))
            return false;
        _parents[bio.Index] = new Parent { Pending = 1, Tried = 1U << member };
        return true;
    }

    [HotPath]
    private bool TryStartAll(BioHandle bio)
    {
        uint targets = Targets(bio, out uint gone, out uint failed);
        if (targets == 0)
        {
            _bios.End(bio, Errno.EIO);
            return true;
        }

        if (!Fit(targets))
            Push();
        bool fits = Fit(targets);
        int count = 0;
        for (uint left = targets; left != 0; left &= left - 1)
        {
            int member = BitOperations.TrailingZeroCount(left);
            MemberQueue queue = _current[member]!;
            BioHandle part = TakePart(bio, member, queue);

            // The first part decides whether the bio has begun (T16).
            if (fits || count != 0)
                queue.Add(part);
            else if (!TryGive(queue, part))
                return false;
            count++;
        }

        _parents[bio.Index] = new Parent { Pending = count, Failed = gone | failed };
        return true;
    }

    /// <summary>The members that a write or a flush goes to.</summary>
    /// <param name="bio">The bio.</param>
    /// <param name="gone">Members that were there, but not any more when the map was made: they have failed.</param>
    /// <param name="failed">Members that have failed, and whose superblocks' successors do not say so yet: nothing is acknowledged without them before.</param>
    [HotPath]
    private uint Targets(BioHandle bio, out uint gone, out uint failed)
    {
        var map = _bios.MapOf(bio) as CompositeMap;
        uint targets = 0;
        gone = 0;
        failed = 0;
        for (int i = 0; i < _states.Length; i++)
        {
            if (_states[i] == MemberState.Missing)
                failed |= (1U << i) & ~_settled;
            else if (map is not null && map[i] is null)
                gone |= 1U << i;
            else
                targets |= 1U << i;
        }

        return gone == 0 ? targets : WithoutGone(targets, gone);
    }

    [HotPath]
    private bool Fit(uint targets)
    {
        for (uint left = targets; left != 0; left &= left - 1)
        {
            if (_current[BitOperations.TrailingZeroCount(left)]!.Left <= 0)
                return false;
        }

        return true;
    }

    /// <summary>Gives a member the first part of a bio; without room the part is given back.</summary>
    [HotPath]
    private bool TryGive(MemberQueue queue, BioHandle part)
    {
        if (queue.Left > 0)
        {
            queue.Add(part);
            return true;
        }

        queue.Push();
        if (queue.TryBegin(part))
            return true;
        _parts.Release(part);
        return false;
    }

    [HotPath]
    private BioHandle TakePart(BioHandle bio, int member, MemberQueue queue)
    {
        ref readonly Bio whole = ref _bios[bio];
        long cookie = Cookie.Of(bio, member, queue.Place, _states[member] == MemberState.InSync);
        BioHandle part;
        if (whole.Operation == BioOperation.Flush)
            _parts.TryAllocateFlush(out part, _owner, cookie);
        else
            _parts.TryTakePart(_bios, bio, (_bios.MapOf(bio) as CompositeMap)?[member], 0, whole.Size, whole.Sector, _owner, cookie, out part);
        return part;
    }

    /// <summary>Where a read goes: to the member with the least to do, or, where the copies may differ, to the first.</summary>
    /// <returns>-1 when there is none.</returns>
    [HotPath]
    private int ChooseReader(BioHandle bio, uint tried)
    {
        ref readonly Bio whole = ref _bios[bio];
        var map = _bios.MapOf(bio) as CompositeMap;
        bool first = _set.MayDiffer(whole.Sector << 9, whole.Size);
        int chosen = -1;
        int least = int.MaxValue;
        int count = _states.Length;
        int start = first ? 0 : _turn;
        for (int i = 0; i < count; i++)
        {
            int member = start + i < count ? start + i : start + i - count;
            if (_states[member] != MemberState.InSync || (tried & (1U << member)) != 0 || (map is not null && map[member] is null))
                continue;
            int load = _current[member]!.InFlight;
            if (load >= least)
                continue;
            chosen = member;
            least = load;
            if (first)
                break;
        }

        _turn = chosen + 1 < count ? chosen + 1 : 0;
        return chosen;
    }

    [HotPath]
    private int Push()
    {
        int taken = 0;
        foreach (MemberQueue queue in _queues)
            taken += queue.Push();
        return taken;
    }

    [HotPath]
    private bool HasWaiting()
    {
        foreach (MemberQueue queue in _queues)
        {
            if (queue.HasWaiting)
                return true;
        }

        return false;
    }

    // A member that is gone, but not dropped yet, must not keep the others from being used.
    private void OpenAtFirst(int index, MirrorMember member)
    {
        try
        {
            Enlist(new MemberQueue(index, member.Device, Context, _parts, _depth));
        }
        catch (DmaBufIoException e) when (e.Errno == Errno.ENODEV)
        {
            _states[index] = MemberState.Missing;
            _set.ReportFailure(member);
        }
    }

    private void Enlist(MemberQueue queue)
    {
        queue.Place = _places.IndexOf(null);
        if (queue.Place < 0)
        {
            queue.Place = _places.Count;
            _places.Add(null);
        }

        _places[queue.Place] = queue;
        _queues.Add(queue);
        _current[queue.Member] = queue;
    }

    private void Close()
    {
        foreach (MemberQueue queue in _queues)
            queue.Dispose();
        _parts.Dispose();
    }

    /// <summary>One bio under way.</summary>
    private struct Parent
    {
        /// <summary>Parts that have not ended.</summary>
        internal int Pending;

        /// <summary>The first error of a part.</summary>
        internal Errno Status;

        /// <summary>Members on which it failed.</summary>
        internal uint Failed;

        /// <summary>Reads: members that were asked.</summary>
        internal uint Tried;

        /// <summary>A member that holds everything has it.</summary>
        internal bool IsGood;

        /// <summary>What it failed on was not recorded, or is the last member: it must not be acknowledged.</summary>
        internal bool IsLost;

        /// <summary>All parts have ended; it waits until the set has recorded who failed.</summary>
        internal bool IsHeld;
    }

    /// <summary>A part's cookie: its bio, its member's number and queue, whether the member held everything, and how often it was given to it again.</summary>
    private static class Cookie
    {
        internal const long Try = 1L << 56;

        internal static long Of(BioHandle parent, int member, int queue, bool inSync) =>
            (uint)parent.Index | ((long)member << 32) | ((long)queue << 40) | (inSync ? 1L << 55 : 0);

        internal static int MemberOf(long cookie) => (int)(cookie >> 32) & 0xFF;

        internal static int QueueOf(long cookie) => (int)(cookie >> 40) & 0x7FFF;

        internal static bool WasInSync(long cookie) => ((cookie >> 55) & 1) != 0;

        internal static int TriesOf(long cookie) => (int)(cookie >> 56) & 0x7F;
    }
}
