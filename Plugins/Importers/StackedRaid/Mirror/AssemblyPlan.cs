using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Metadata;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <summary>What is to be assembled.</summary>
/// <param name="Name">A name for messages.</param>
/// <param name="Devices">The members in order.</param>
/// <param name="Labels">What the user calls them, for messages.</param>
/// <param name="Degraded">Go on without members that the newest superblock counts on.</param>
internal sealed record AssemblyRequest(string Name, IReadOnlyList<BlockDevice> Devices, IReadOnlyList<string> Labels, bool Degraded);

/// <summary>What the members' metadata say about a set, and what follows for each of them: the set as it is to be assembled.</summary>
/// <remarks>
/// No superblock anywhere: a new set, whose copies may differ everywhere. Else the superblock with the highest number is the truth, and <see cref="MemberHistory"/> says how each member stands to it.
/// A set is not assembled for writing while a member is missed that the truth counts on, unless the user says so: that member may know better. It is read all the same.
/// Members that have each gone on without the other are refused: nobody can say which is right.
/// </remarks>
internal sealed class AssemblyPlan
{
    private const long SmallestRegion = 64 << 10;
    private const int WantedRegions = 4096;

    internal required Guid Set { get; init; }

    internal required ulong Sequence { get; init; }

    internal required ulong Intents { get; init; }

    internal required MirrorMember[] Members { get; init; }

    internal required long DataSize { get; init; }

    internal required long RegionSize { get; init; }

    /// <summary>By region, 1: the copies may differ.</summary>
    internal required byte[] Dirty { get; init; }

    internal required bool IsReadOnly { get; init; }

    /// <summary>Reads the metadata of all members.</summary>
    /// <exception cref="DmaBufIoException">
    /// Members of different sets, of a set of another size, in another order, too small, or gone on apart (<c>EINVAL</c>); one missed that the newest superblock counts on (<c>ENODEV</c>);
    /// none readable (<c>EIO</c>).
    /// </exception>
    internal static AssemblyPlan Make(AssemblyRequest request, MirrorStore store)
    {
        IReadOnlyList<BlockDevice> devices = request.Devices;
        var found = new Superblock?[devices.Count];
        var isThere = new bool[devices.Count];
        for (int i = 0; i < devices.Count; i++)
        {
            try
            {
                if (devices[i].IsRemoved)
                    continue;
                store.Attach(devices[i]);
                found[i] = ReadSuperblock(store, devices[i], request.Labels[i]);
                isThere[i] = true;
            }
            catch (DmaBufIoException e) when (e.Errno is Errno.ENODEV or Errno.EIO)
            {
                // A set goes on without a member that is gone.
            }
        }

        bool readOnly = devices.Where((_, i) => isThere[i]).Any(static d => d.IsReadOnly);
        if (!Array.Exists(isThere, static t => t))
            throw Refused(Errno.EIO, request.Name, $"none of its members can be read: {string.Join(", ", request.Labels)}", "See what the devices themselves say");
        Superblock? best = found.Where(static s => s is not null).MaxBy(static s => s!.Sequence);
        return best is null ? Create(request, isThere, readOnly) : Continue(request, store, found, isThere, best, readOnly);
    }

    /// <summary>The newer of a member's superblocks that is whole, or null.</summary>
    /// <exception cref="DmaBufIoException">It cannot be read.</exception>
    internal static Superblock? ReadSuperblock(MirrorStore store, BlockDevice device, string label)
    {
        long tail = MetadataLayout.TailOf(device.Capacity);
        Superblock? newest = null;
        for (ulong place = 0; tail >= 0 && place < 2; place++)
        {
            Errno status = store.ReadMetadata(device, MetadataLayout.SuperblockAt(tail, place));
            if (status != Errno.Ok)
                throw Refused(status, label, "its metadata cannot be read", "See what the device itself says");
            Superblock? read = Superblock.Read(store.Block);
            if (read is not null && (newest is null || read.Sequence > newest.Sequence))
                newest = read with { Place = (int)place };
        }

        return newest;
    }

    private static AssemblyPlan Create(AssemblyRequest request, bool[] isThere, bool readOnly)
    {
        (string name, IReadOnlyList<BlockDevice> devices, IReadOnlyList<string> labels, _) = request;
        if (readOnly)
        {
            throw Refused(
                Errno.EINVAL, name, "no member has a superblock: there is no set on these devices to be read",
                $"Name the members of a set. Opening it for writing makes one, and overwrites all other members with {labels[0]}");
        }

        if (Array.IndexOf(isThere, false) is >= 0 and var missing)
            throw Refused(Errno.ENODEV, name, $"a new set needs all its members, and {labels[missing]} cannot be read", "Replace the device");
        int block = devices.Max(static d => d.Limits.LogicalBlockSize);
        long size = devices.Min(static d => MetadataLayout.TailOf(d.Capacity)) & -Math.Max(block, MetadataLayout.BlockSize);
        if (size <= 0)
            throw Refused(Errno.EINVAL, name, $"its smallest member has {devices.Min(static d => d.Capacity)} bytes, and {MetadataLayout.TailSize} are for metadata", "Give larger devices");
        long region = Math.Max(SmallestRegion, (long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)((size + WantedRegions - 1) / WantedRegions)));
        var dirty = new byte[(size + region - 1) / region];
        Array.Fill(dirty, (byte)1);
        return new AssemblyPlan
        {
            Set = Guid.NewGuid(),
            Sequence = 0,
            Intents = 0,
            Members = [.. devices.Select((d, i) => new MirrorMember(d, labels[i], Guid.NewGuid(), MemberState.InSync))],
            DataSize = size,
            RegionSize = region,
            Dirty = dirty,
            IsReadOnly = false,
        };
    }

    private static AssemblyPlan Continue(AssemblyRequest request, MirrorStore store, Superblock?[] found, bool[] isThere, Superblock best, bool readOnly)
    {
        string name = request.Name;
        if (best.Members.Count != request.Devices.Count)
            throw Refused(Errno.EINVAL, name, $"the set on these devices has {best.Members.Count} members, and {request.Devices.Count} are given", "Name all members");
        if (best.DataSize <= 0 || best.RegionSize < SmallestRegion || !long.IsPow2(best.RegionSize) || best.DataSize / best.RegionSize >= IntentRecord.MostRegions)
            throw Refused(Errno.EINVAL, name, $"its superblock says {best.DataSize} bytes in regions of {best.RegionSize}, which cannot be", "The superblock was written by something else: clear the last 64 KiB of the members to begin anew");
        for (int i = 0; i < found.Length; i++)
        {
            if (found[i] is { } own)
                CheckBelongs(request, own, best, i);
        }

        if (!readOnly && !request.Degraded)
            CheckNoneMissed(request, found, isThere, best);
        var members = new MirrorMember[found.Length];
        bool all = false;
        for (int i = 0; i < members.Length; i++)
        {
            members[i] = MemberOf(request, found[i], isThere[i], best, i, readOnly);
            all |= members[i].LacksEverything;
        }

        if (!Array.Exists(members, static m => m.State == MemberState.InSync))
            throw Refused(Errno.EIO, name, "no member that holds everything is there", "Give the member that was in step last");
        var dirty = new byte[(best.DataSize + best.RegionSize - 1) / best.RegionSize];
        ulong intents = 0;
        foreach (MirrorMember member in members.Where(static m => m.State == MemberState.InSync))
            intents = Math.Max(intents, ReadIntents(store, member, best.Set, dirty));
        if (all)
            Array.Fill(dirty, (byte)1);
        return new AssemblyPlan
        {
            Set = best.Set,
            Sequence = best.Sequence,
            Intents = intents,
            Members = members,
            DataSize = best.DataSize,
            RegionSize = best.RegionSize,
            Dirty = dirty,
            IsReadOnly = readOnly,
        };
    }

    private static MirrorMember MemberOf(AssemblyRequest request, Superblock? own, bool isThere, Superblock best, int index, bool readOnly)
    {
        BlockDevice device = request.Devices[index];
        string label = request.Labels[index];

        // Who is not there keeps its identity: when it comes back, its superblock says what it lacks.
        if (!isThere)
            return new MirrorMember(device, label, best.Members[index], MemberState.Missing) { Told = best.Told[index] };
        Standing standing = MemberHistory.Of(own, index, best);
        if (standing == Standing.HoldsEverything)
            return new MirrorMember(device, label, best.Members[index], MemberState.InSync) { Told = own!.Sequence, Place = own.Place };
        if (readOnly)
            return new MirrorMember(device, label, best.Members[index], MemberState.Missing);
        if (MetadataLayout.TailOf(device.Capacity) < best.DataSize)
            throw Refused(Errno.EINVAL, request.Name, $"{label} is too small for the set", $"Give a device of {best.DataSize + MetadataLayout.TailSize} bytes or more");
        return standing == Standing.LacksSome
            ? new MirrorMember(device, label, best.Members[index], MemberState.Rebuilding) { Told = own!.Sequence, Place = own.Place }
            : new MirrorMember(device, label, Guid.NewGuid(), MemberState.Rebuilding) { Place = own?.Place ?? -1, LacksEverything = true };
    }

    private static void CheckBelongs(AssemblyRequest request, Superblock own, Superblock best, int index)
    {
        string label = request.Labels[index];
        if (own.Set != best.Set)
            throw Refused(Errno.EINVAL, request.Name, $"{label} belongs to another set ({own.Set}, not {best.Set})", "Name members of one set, or clear the last 64 KiB of the one that is to join");
        if (own.Index != index)
            throw Refused(Errno.EINVAL, request.Name, $"{label} is member {own.Index} and is named as member {index}", "Name the members in their order");
        if (MemberHistory.Of(own, index, best) == Standing.WentOn)
        {
            throw Refused(
                Errno.EINVAL, request.Name, $"members {request.Labels[best.Index]} and {label} have each gone on without the other: nobody can say which is right",
                "Decide for one, and clear the last 64 KiB of the other");
        }
    }

    private static void CheckNoneMissed(AssemblyRequest request, Superblock?[] found, bool[] isThere, Superblock best)
    {
        for (int i = 0; i < found.Length; i++)
        {
            if (!MemberHistory.IsMissed(found[i], i, best, isThere[i]))
                continue;
            string problem = !isThere[i] ? "is not there" : found[i] is null ? "has no superblock" : "is an older image of it";
            throw Refused(
                Errno.ENODEV, request.Name, $"{request.Labels[best.Index]} counts on member {i}, and {request.Labels[i]} {problem}: who is missing may hold what was written last",
                $"Give the member back. When it is lost for good, go on with what {request.Labels[best.Index]} holds: write raid1:degraded(A,B) or raid10:CHUNK,degraded=on(A,B,...); what is at the place of member {i} is overwritten then");
        }
    }

    /// <summary>Adds the regions of the newest record of a member that is whole.</summary>
    private static ulong ReadIntents(MirrorStore store, MirrorMember member, Guid set, byte[] dirty)
    {
        ulong newest = 0;
        byte[]? regions = null;
        for (ulong place = 0; place < 2; place++)
        {
            var read = new byte[dirty.Length];
            if (store.ReadMetadata(member.Device, MetadataLayout.IntentsAt(member.Tail, place)) == Errno.Ok
                && IntentRecord.TryRead(store.Block, set, out ulong number, read) && (regions is null || number > newest))
            {
                newest = number;
                regions = read;
            }
        }

        // Without a record nothing is known.
        for (int i = 0; i < dirty.Length; i++)
            dirty[i] |= regions?[i] ?? 1;
        return newest;
    }

    private static DmaBufIoException Refused(Errno errno, string name, string problem, string remedy) => new(errno, StackedRaidPlugin.PluginName, name, problem, remedy);
}
