using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.StackedRaid.Striped;

/// <summary>
/// A queue of a set without redundancy. A bio is cloned and re-targeted, in one part or in several where chunks, members or their limits end (B2, B3); it ends when all its
/// parts have, with the first error.
/// </summary>
/// <remarks>
/// Parts have a pool of their own, in which the members' queues end them; so sets stack to any depth without knowing of each other. A bio is taken when the members have
/// room for all its parts, or say nothing about their room; once its first part is with a member, the others wait for room here (T16).
/// </remarks>
internal sealed class StripedQueue : BlockQueue, IBioOwner
{
    private const int LargestPool = 1 << 15;

    private readonly StripedDevice _device;
    private readonly IStripeLayout _layout;
    private readonly BioPool _bios;
    private readonly BioPool _parts;
    private readonly ParentTable _parents;
    private readonly MemberQueue[] _members;
    private readonly long _longest;
    private readonly int _piecesPerBio;
    private readonly int _piecesPerMember;
    private readonly int _owner;
    private int _ended;

    internal StripedQueue(StripedDevice device, IoContext context, BioPool bios, int depth)
    {
        _device = device;
        _layout = device.Layout;
        _longest = device.LongestPiece;
        _bios = bios;
        _parents = new ParentTable(bios);
        int members = device.Members.Count;
        _piecesPerBio = Math.Max(device.PiecesPerBio, device.Members.Count);

        // Where a chunk is more than a member takes at once, all pieces of a bio may be one member's.
        _piecesPerMember = _longest < _layout.LongestPiece ? device.PiecesPerBio : (device.PiecesPerBio + members - 1) / members;
        int parts = Math.Min(LargestPool, Math.Max(depth, 1) * _piecesPerBio);
        _parts = new BioPool(Math.Max(parts, 2 * _piecesPerBio));
        _owner = _parts.AddOwner(this);
        _members = new MemberQueue[members];
        try
        {
            for (int i = 0; i < members; i++)
                _members[i] = new MemberQueue(i, device.Members[i], context, _parts, Math.Min(_parts.Capacity, depth * _piecesPerMember));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    [Diagnostics.HotPath]
    public override int Room
    {
        get
        {
            int room = _parts.Free / _piecesPerBio;
            foreach (MemberQueue member in _members)
                room = Math.Min(room, member.Room / _piecesPerMember);
            return room;
        }
    }

    /// <inheritdoc/>
    [Diagnostics.HotPath]
    public override int Submit(ReadOnlySpan<BioHandle> bios)
    {
        foreach (MemberQueue member in _members)
            member.Look();
        int taken = 0;
        while (taken < bios.Length && TryStart(bios[taken]))
            taken++;
        Push();
        return taken;
    }

    /// <inheritdoc/>
    [Diagnostics.HotPath]
    public override void Commit()
    {
        foreach (MemberQueue member in _members)
            member.Commit();
    }

    /// <inheritdoc/>
    [Diagnostics.HotPath]
    public override int Poll(int max)
    {
        _ended = 0;
        foreach (MemberQueue member in _members)
            member.Poll(max);
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
    public override bool TryEnableInterrupts(Action handler) => Array.TrueForAll(_members, m => m.TryEnableInterrupts(handler));

    /// <inheritdoc/>
    public override void Dispose()
    {
        foreach (MemberQueue? member in _members)
            member?.Dispose();
        _parts.Dispose();
    }

    void IBioOwner.BioEnded(BioHandle bio) => ((IBioOwner)this).BiosEnded(new ReadOnlySpan<BioHandle>(in bio));

    [Diagnostics.HotPath]
    void IBioOwner.BiosEnded(ReadOnlySpan<BioHandle> bios)
    {
        foreach (BioHandle part in bios)
        {
            ref readonly Bio ended = ref _parts[part];
            BioHandle parent = PartCookie.ParentOf(ended.Cookie);
            int member = PartCookie.MemberOf(ended.Cookie);
            _members[member].Ended();
            ref ParentTable.Parent state = ref _parents[parent.Index];
            if (ended.Status != Errno.Ok)
                NoteError(ref state, ended, member);
            if (--state.Pending != 0)
                continue;
            _bios.End(parent, state.Status);
            _ended++;
        }

        _parts.Release(bios);
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void NoteError(ref ParentTable.Parent parent, in Bio part, int member)
    {
        if (parent.Status == Errno.Ok)
            parent.Status = part.Status;
        DmaBufIoDiagnostics.Report(new MemberFault(_device.Name, _device.Members[member].Name, part.Status, part.Sector << 9, part.Size));
    }

    [Diagnostics.HotPath]
    private bool TryStart(BioHandle bio)
    {
        if (_parts.Free < _piecesPerBio)
            return false;
        ref readonly Bio whole = ref _bios[bio];
        if (whole.Operation == BioOperation.Flush)
            return TryStartFlush(bio);
        long offset = whole.Sector << 9;
        long size = whole.Size;
        bool fits = Fits(offset, size);
        if (!fits)
        {
            // What was gathered may be all that is in the way.
            Push();
            fits = Fits(offset, size);
        }

        var composite = _bios.MapOf(bio) as CompositeMap;
        int pending = 0;
        for (long done = 0; done < size;)
        {
            long length = Math.Min(Math.Min(_layout.Find(offset + done, out int member, out long place), _longest), size - done);
            MemberQueue queue = _members[member];
            _parts.TryTakePart(_bios, bio, composite?[member], done, length, place >> 9, _owner, PartCookie.Of(bio, member), out BioHandle part);

            // The first part decides whether the bio has begun (T16).
            if (fits || pending != 0)
            {
                queue.Add(part);
            }
            else if (!queue.TryBegin(part))
            {
                _parts.Release(part);
                return false;
            }

            pending++;
            done += length;
        }

        _parents[bio.Index] = new ParentTable.Parent { Pending = pending };
        return true;
    }

    /// <summary>Whether all members take their parts of a range for certain.</summary>
    [Diagnostics.HotPath]
    private bool Fits(long offset, long size)
    {
        long length = Math.Min(_layout.Find(offset, out int member, out _), _longest);
        if (length >= size)
            return _members[member].Left > 0;
        foreach (MemberQueue queue in _members)
        {
            if (queue.Left < _piecesPerMember)
                return false;
        }

        return true;
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private bool TryStartFlush(BioHandle bio)
    {
        Push();
        for (int i = 0; i < _members.Length; i++)
        {
            _parts.TryAllocateFlush(out BioHandle part, _owner, PartCookie.Of(bio, i));
            if (i != 0)
            {
                _members[i].Add(part);
            }
            else if (!_members[i].TryBegin(part))
            {
                _parts.Release(part);
                return false;
            }
        }

        _parents[bio.Index] = new ParentTable.Parent { Pending = _members.Length };
        return true;
    }

    [Diagnostics.HotPath]
    private int Push()
    {
        int taken = 0;
        foreach (MemberQueue member in _members)
            taken += member.Push();
        return taken;
    }

    [Diagnostics.HotPath]
    private bool HasWaiting()
    {
        foreach (MemberQueue member in _members)
        {
            if (member.HasWaiting)
                return true;
        }

        return false;
    }
}
