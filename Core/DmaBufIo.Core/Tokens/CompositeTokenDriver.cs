using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;

namespace DmaBufIo.Tokens;

/// <summary>Something that a composite stands on.</summary>
/// <param name="Name">A name for messages.</param>
/// <param name="CreateToken">Its token operation; answers null when it has none.</param>
public sealed record CompositeMember(string Name, Func<DmaBuf, DmaDirection, TokenDriver?> CreateToken);

/// <summary>
/// The driver's part of a token over several members (§9): one composite map made under one hold of the lock, or none; one reference per request; an invalidation
/// revokes all at once, because there is one gate.
/// </summary>
/// <remarks>
/// Members that share a device share its attachment, and mappings of one generation. All members are needed unless a subclass says otherwise. A set whose members change
/// kills the map (<see cref="TokenDriver.KillMaps"/>): the next one is made over the members of then.
/// </remarks>
public class CompositeTokenDriver : TokenDriver
{
    private readonly string _name;
    private readonly CompositeMember[] _members;
    private readonly CompositeMember?[] _adopted; // whose driver is at the same place in _drivers
    private readonly TokenDriver?[] _drivers;

    /// <summary>Creates the driver's part.</summary>
    /// <param name="buffer">The buffer that is going to be registered.</param>
    /// <param name="direction">The transfers that the token is for.</param>
    /// <param name="name">The set's name, for messages.</param>
    /// <param name="members">The members in order, one or more.</param>
    public CompositeTokenDriver(DmaBuf buffer, DmaDirection direction, string name, IReadOnlyList<CompositeMember> members)
        : base(buffer, direction)
    {
        ArgumentOutOfRangeException.ThrowIfZero(members.Count);
        _name = name;
        _members = [.. members];
        _adopted = new CompositeMember?[members.Count];
        _drivers = new TokenDriver?[members.Count];
    }

    /// <inheritdoc/>
    public override bool IsLost
    {
        get
        {
            bool any = false;
            for (int i = 0; i < _drivers.Length; i++)
            {
                bool lost = _drivers[i] is { IsLost: true };
                if (lost && !CanDoWithout(i))
                    return true;

                // One that has come since the last map was made is taken in by the next.
                any |= (_drivers[i] is not null && !lost) || (MemberAt(i) is { } member && !ReferenceEquals(member, _adopted[i]));
            }

            return !any;
        }
    }

    /// <inheritdoc/>
    public sealed override DmaMap Map(in HeldReservation held)
    {
        // An exporter may move the buffer while it maps it for a member, to where that member reaches it: what was mapped before is of an earlier generation then. It moves
        // for as many members as there are at most.
        for (int attempt = 0; ; attempt++)
        {
            long generation = Buffer.Generation;
            CompositeMap map = MapMembers(held);
            if (Buffer.Generation == generation)
                return map;
            Unmap(map, held);
            if (attempt > _drivers.Length)
                throw new DmaBufIoException(Errno.EIO, "Tokens", _name, $"buffer {Buffer.Name} moved each time it was mapped", "Correct the exporter: it has to find a place that all attached devices reach", rule: "T12");
        }
    }

    private CompositeMap MapMembers(in HeldReservation held)
    {
        var maps = new DmaMap?[_drivers.Length];
        var drivers = new TokenDriver?[_drivers.Length];
        long smallest = long.MaxValue;
        for (int i = 0; i < maps.Length; i++)
        {
            try
            {
                drivers[i] = DriverAt(i);
                maps[i] = drivers[i]?.Map(held);
                smallest = Math.Min(smallest, maps[i]?.SmallestSegment ?? long.MaxValue);
            }
            catch (DmaBufIoException e) when (CanGoOn(i, e))
            {
            }
            catch (Exception e)
            {
                Undo(maps, drivers, held);
                if (e is DmaBufIoException refused)
                    throw Refused(i, refused, "map", $"the maps of the {i} members before it were undone");
                throw;
            }
        }

        return smallest != long.MaxValue
            ? new CompositeMap(maps, drivers, Buffer.Size, smallest)
            : throw NobodyThere();
    }

    /// <inheritdoc/>
    public sealed override void Unmap(DmaMap map, in HeldReservation held)
    {
        var composite = (CompositeMap)map;
        for (int i = composite.Count - 1; i >= 0; i--)
        {
            if (composite[i] is { } member)
                composite.DriverOf(i)!.Unmap(member, held);
        }
    }

    /// <inheritdoc/>
    public override void Release()
    {
        // Members are Core's to release.
    }

    /// <inheritdoc/>
    protected internal override void Setup()
    {
        for (int i = 0; i < _drivers.Length; i++)
        {
            try
            {
                DriverAt(i);
            }
            catch (DmaBufIoException e) when (CanGoOn(i, e))
            {
            }
            catch (DmaBufIoException e)
            {
                throw Refused(i, e, "take", $"the registrations with the {i} members before it were undone");
            }
        }

        if (Array.TrueForAll(_drivers, static d => d is null))
            throw NobodyThere();
    }

    /// <inheritdoc/>
    protected internal override bool IsCurrent(DmaMap map)
    {
        var composite = (CompositeMap)map;
        bool isCurrent = !IsLost;
        for (int i = 0; i < composite.Count && isCurrent; i++)
            isCurrent = composite[i] is not { } member || composite.DriverOf(i)!.IsCurrent(member);
        return isCurrent;
    }

    /// <summary>Who is the member with this number now. Called with and without locks; must not wait.</summary>
    /// <param name="index">From 0.</param>
    /// <returns>The same object for as long as it is the same member; null when the set does without it at present.</returns>
    protected virtual CompositeMember? MemberAt(int index) => _members[index];

    /// <summary>True when the set goes on without this member once its device was removed. Called with and without locks; must not wait.</summary>
    /// <param name="index">From 0.</param>
    protected virtual bool CanDoWithout(int index) => false;

    /// <summary>Asked when a member could not take the buffer, or not map it.</summary>
    /// <param name="index">From 0.</param>
    /// <param name="reason">Why; its status says that it was removed (<c>ENODEV</c>), or what else.</param>
    /// <returns>True when the set goes on without it; false, the default, fails the whole.</returns>
    protected virtual bool CanGoOn(int index, DmaBufIoException reason) => false;

    // With the reservation lock held, or in Setup: one at a time either way.
    private TokenDriver? DriverAt(int index)
    {
        CompositeMember? member = MemberAt(index);
        if (member is null || ReferenceEquals(member, _adopted[index]))
            return member is null ? null : _drivers[index];
        TokenDriver driver = member.CreateToken(Buffer, Direction) ?? throw new DmaBufIoException(
            Errno.EOPNOTSUPP, "Tokens", member.Name, "the device has no token operation, so it cannot take a registered buffer", "Build the set of devices that have one", rule: "T1");
        Adopt(driver);
        _adopted[index] = member;
        return _drivers[index] = driver;
    }

    private static void Undo(DmaMap?[] maps, TokenDriver?[] drivers, in HeldReservation held)
    {
        for (int i = maps.Length - 1; i >= 0; i--)
        {
            if (maps[i] is { } map)
                drivers[i]!.Unmap(map, held);
        }
    }

    private DmaBufIoException NobodyThere() => new(Errno.ENODEV, "Tokens", _name, "none of its members is there", "Give the set a member back", rule: "T11");

    private DmaBufIoException Refused(int index, DmaBufIoException cause, string verb, string undone) => new(
        cause.Errno,
        "Tokens",
        _name,
        $"member {index} ({_members[index].Name}) cannot {verb} buffer {Buffer.Name}: {cause.Problem}; {undone}",
        "Replace the member, or register a buffer that all members can take",
        rule: "T2",
        inner: cause);
}
