using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Metadata;
using DmaBufIo.Io;
using DmaBufIo.Sync;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <summary>RAID 1: every member holds everything. Reads go to one, writes to all; a member that fails is dropped, and the set goes on.</summary>
/// <remarks>
/// Protocol. <c>_control</c> guards the members, their states, the metadata and the copying; it is held across I/O and across visits, never while waiting for a map (T15): the
/// holder of a reservation lock may be waiting for requests that this set's worker has to end. What queues need is read without it: states, and the regions that may be written.
/// A queue belongs to its context's owner. The worker changes a queue's state by visiting the context, so the request path needs no lock and no interlocked instruction.
/// <list type="bullet">
/// <item>A write goes out when its regions are in the record of intents, and the record is durable on all members. Before that the queue has no room for it, and the worker is told.</item>
/// <item>A write that failed on some members and is good on another ends when the superblocks of the others say that those are out of step.</item>
/// <item>While a range is copied, no write to it is in flight: queues have no room for such writes, and the worker waits for those that had begun.</item>
/// </list>
/// Reads of a region whose copies may differ all go to the same member: the first that holds everything.
/// This file holds the face of the device; assembly, failures and replacement, intents, and copying are in files of their own.
/// </remarks>
internal sealed partial class MirrorSet : BlockDevice, IRedundantDevice, IDisposable
{
    /// <summary>Members a mirror may have.</summary>
    internal const int MostMembers = 16;

    private readonly SleepingMutex _control;
    private readonly Lock _lists = new();
    private readonly List<MirrorTokenDriver> _tokens = [];
    private readonly List<MirrorQueue> _queues = [];
    private readonly MirrorStore _store;
    private readonly WorkQueue _workers;
    private readonly Work _work;
    private readonly Closing _closing;
    private readonly WaitQueue _changed = new();
    private readonly Guid _id;
    private readonly bool _readOnly;
    private MirrorMember[] _members; // replaced as a whole
    private ulong _sequence;
    private bool _hasBegun; // what it knows of the members is true, and they may be told
    private bool _removed;  // nothing is begun any more: by the worker from here on, by queues when they have been visited
    private bool _disposed; // the worker has nothing to do any more. Set with control held

    private MirrorSet(string name, MirrorStore store, AssemblyPlan plan)
    {
        Name = name;
        _store = store;
        _id = plan.Set;
        _sequence = plan.Sequence;
        _intents = plan.Intents;
        _members = plan.Members;
        _readOnly = plan.IsReadOnly;
        _control = new SleepingMutex($"control of {name}");
        Capacity = plan.DataSize;
        RegionSize = plan.RegionSize;
        Limits = plan.Members.Where(static m => m.State != MemberState.Missing).Select(static m => m.Device.Limits).Aggregate(static (all, m) => all.Stack(m));
        int regions = (int)((plan.DataSize + plan.RegionSize - 1) / plan.RegionSize);
        _dirty = plan.Dirty;
        _needsSync = (byte[])plan.Dirty.Clone();
        _wanted = new byte[regions];
        _failing = new MirrorMember?[plan.Members.Length];
        _workers = new WorkQueue($"dmabufio-{name}", 1);
        _work = new Work(this);
        _closing = new Closing(this);
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override long Capacity { get; }

    /// <inheritdoc/>
    public override QueueLimits Limits { get; }

    /// <inheritdoc/>
    public override bool IsReadOnly => _readOnly;

    /// <inheritdoc/>
    public override bool IsRemoved
    {
        get
        {
            if (IsClosed)
                return true;
            foreach (MirrorMember member in Copies)
            {
                if (member.State != MemberState.Missing && !member.Device.IsRemoved)
                    return false;
            }

            return true;
        }
    }

    /// <inheritdoc/>
    public override string Description => $"raid1 over {string.Join(", ", Copies.Select(static m => $"{m.Label} ({m.State})"))}";

    /// <inheritdoc/>
    public IReadOnlyList<RedundantMember> Members => [.. Copies.Select(static m => new RedundantMember(m.Label, m.State.ToString()))];

    /// <inheritdoc/>
    public bool IsInSync => !IsClosed && !Volatile.Read(ref _isCopying) && !(_readOnly && Array.IndexOf(_needsSync, (byte)1) >= 0) && Array.TrueForAll(Copies, static m => m.State == MemberState.InSync);

    /// <summary>The members by number, as they are now.</summary>
    internal MirrorMember[] Copies => Volatile.Read(ref _members);

    /// <summary>The set was removed; its members may be there still.</summary>
    internal bool IsClosed => Volatile.Read(ref _removed);

    /// <summary>Bytes of a region of the record of intents, a power of two.</summary>
    internal long RegionSize { get; }

    /// <inheritdoc/>
    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth)
    {
        using Control control = TakeControl();
        ThrowIfRemoved();
        var queue = new MirrorQueue(this, context, bios, depth);
        lock (_lists)
            _queues.Add(queue);
        return queue;
    }

    /// <inheritdoc/>
    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => new MirrorTokenDriver(this, buffer, direction);

    /// <inheritdoc/>
    public Errno WaitInSync(CancellationToken cancellationToken = default)
    {
        Errno status = _changed.Wait(() => !Volatile.Read(ref _isCopying), new WaitReason($"copying of {Name}"), cancellationToken);
        return status != Errno.Ok ? status : IsInSync ? Errno.Ok : IsClosed ? Errno.ENODEV : Errno.EIO;
    }

    /// <summary>
    /// Removes the set, under load too (T11, N8): what its members have under way ends, everything else and whatever comes answers <c>ENODEV</c>, and its maps go. What is written is made durable, members
    /// that cannot do that are dropped, and the record of intents is cleared when nothing may differ. Queues may be closed later; the members stay the caller's. May sleep; not with a reservation lock held.
    /// </summary>
    public void Dispose()
    {
        // First, so that the worker begins nothing more: copying goes on for as long as there is something to copy.
        if (Interlocked.Exchange(ref _removed, true))
            return;
        using (TakeControl())
            EndRequests();

        // Not with control held (T15). No map is published any more: who does that looks at the removal first, and was before it or sees it.
        foreach (MirrorTokenDriver token in Tokens())
            token.Renew();
        using (TakeControl())
        {
            if (_hasBegun)
                EndOrderly();
            EndCopying();
            _disposed = true;
        }

        _workers.Dispose();

        // What is being closed has the store's memory mapped.
        _closers?.Flush();
        _closers?.Dispose();
        CloseLeft();
        _store.Dispose();
    }

    /// <summary>A queue is closed.</summary>
    internal void Remove(MirrorQueue queue, Action close)
    {
        using Control control = TakeControl();
        lock (_lists)
        {
            if (!_queues.Remove(queue))
                return;
        }

        close();
    }

    internal void Add(MirrorTokenDriver token)
    {
        lock (_lists)
            _tokens.Add(token);
    }

    internal void Remove(MirrorTokenDriver token)
    {
        lock (_lists)
            _tokens.Remove(token);
    }

    /// <summary>The next assembly must not take a member for one that has everything which could not make that durable. Control held.</summary>
    private void EndOrderly()
    {
        SeeToFailures();
        if (FlushAll())
            CleanIntents(keepWanted: false);
        if (!_isRecorded)
            WriteSuperblocks();
    }

    /// <summary>Returns when no queue has anything under way, and none begins anything any more. Control held.</summary>
    private void EndRequests()
    {
        var spin = default(SpinWait);
        while (true)
        {
            bool quiet = true;
            VisitAll(q => quiet &= q.EndAll());
            if (quiet)
                return;

            // They may be waiting for the worker, which waits for the lock that is held here.
            SeeToFailures();
            spin.SpinOnce();
        }
    }

    private void ThrowIfRemoved()
    {
        if (IsClosed)
            throw new DmaBufIoException(Errno.ENODEV, StackedRaidPlugin.PluginName, Name, "the set was removed", "Open it again", rule: "T11");
    }

    private MirrorTokenDriver[] Tokens()
    {
        lock (_lists)
            return [.. _tokens];
    }

    private MirrorQueue[] Queues()
    {
        lock (_lists)
            return [.. _queues];
    }

    /// <summary>Visits every queue, then wakes whoever waits for it: there may be room now.</summary>
    private void VisitAll(Action<MirrorQueue> action)
    {
        foreach (MirrorQueue queue in Queues())
        {
            queue.Context.Visit(() => action(queue));
            queue.Wake();
        }
    }

    private Control TakeControl()
    {
        Errno status = _control.Lock();
        return status == Errno.Ok
            ? new Control(_control)
            : throw new DmaBufIoException(status, StackedRaidPlugin.PluginName, Name, "the thread works on the set already", "Do not change a set from within its callbacks");
    }

    private readonly ref struct Control(SleepingMutex mutex)
    {
        public void Dispose() => mutex.Unlock();
    }

    /// <summary>Closes what dropped members have left of the set's own. No lock is held.</summary>
    private sealed class Closing(MirrorSet set) : WorkItem
    {
        protected override void Run() => set.CloseLeft();
    }

    /// <summary>What the worker does: one step, and again while there is more.</summary>
    private sealed class Work(MirrorSet set) : WorkItem
    {
        protected override void Run()
        {
            if (set.Step())
                set.Tell();
        }
    }
}
