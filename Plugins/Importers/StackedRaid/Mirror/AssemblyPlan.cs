using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Metadata;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <summary>What the members' metadata say about a set, and what follows for each of them: the set as it is to be assembled.</summary>
/// <remarks>
/// No superblock anywhere: a new set, whose copies may differ everywhere. Else the superblock with the highest number is the truth. A member that it calls out of step, or that has none, gets
/// what it lacks: what is in the record of intents when it once held everything, else all. Members that each say the other is lost have gone on apart: nobody can say which is right.
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
    /// <exception cref="DmaBufIoException">Members of different sets, of a set of another size, in another order, too small, or gone on apart (<c>EINVAL</c>); none readable (<c>EIO</c>).</exception>
    internal static AssemblyPlan Make(string name, MirrorStore store, IReadOnlyList<BlockDevice> devices)
    {
        bool readOnly = devices.Any(static d => d.IsReadOnly);
        var found = new Superblock?[devices.Count];
        var isThere = new bool[devices.Count];
        for (int i = 0; i < devices.Count; i++)
        {
            try
            {
                store.Attach(devices[i]);
                found[i] = ReadSuperblock(store, devices[i]);
                isThere[i] = true;
            }
            catch (DmaBufIoException e) when (e.Errno is Errno.ENODEV or Errno.EIO)
            {
                // A set goes on without a member that is gone.
            }
        }

        if (!Array.Exists(isThere, static t => t))
            throw Refused(Errno.EIO, name, "none of its members can be read", "See what the devices themselves say");
        Superblock? best = found.Where(static s => s is not null).MaxBy(static s => s!.Sequence);
        return best is null ? Create(name, devices, isThere, readOnly) : Continue(name, store, devices, found, isThere, best, readOnly);
    }

    /// <summary>The newer of a member's superblocks that is whole, or null.</summary>
    /// <exception cref="DmaBufIoException">It cannot be read.</exception>
    internal static Superblock? ReadSuperblock(MirrorStore store, BlockDevice device)
    {
        long tail = MetadataLayout.TailOf(device.Capacity);
        Superblock? newest = null;
        for (ulong place = 0; tail >= 0 && place < 2; place++)
        {
            Errno status = store.ReadMetadata(device, MetadataLayout.SuperblockAt(tail, place));
            if (status != Errno.Ok)
                throw Refused(status, device.Name, "its metadata cannot be read", "See what the device itself says");
            Superblock? read = Superblock.Read(store.Block);
            if (read is not null && (newest is null || read.Sequence > newest.Sequence))
                newest = read;
        }

        return newest;
    }

    private static AssemblyPlan Create(string name, IReadOnlyList<BlockDevice> devices, bool[] isThere, bool readOnly)
    {
        if (readOnly)
            throw Refused(Errno.EINVAL, name, "no member has a superblock: there is no set on these devices to be read", "Open it for writing to make one");
        if (Array.IndexOf(isThere, false) is >= 0 and var missing)
            throw Refused(Errno.ENODEV, name, $"a new set needs all its members, and {devices[missing].Name} cannot be read", "Replace the device");
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
            Members = [.. devices.Select(static d => new MirrorMember(d, Guid.NewGuid(), MemberState.InSync))],
            DataSize = size,
            RegionSize = region,
            Dirty = dirty,
            IsReadOnly = false,
        };
    }

    private static AssemblyPlan Continue(string name, MirrorStore store, IReadOnlyList<BlockDevice> devices, Superblock?[] found, bool[] isThere, Superblock best, bool readOnly)
    {
        if (best.Members.Count != devices.Count)
            throw Refused(Errno.EINVAL, name, $"the set on these devices has {best.Members.Count} members, and {devices.Count} are given", "Name all members");
        if (best.DataSize <= 0 || best.RegionSize < SmallestRegion || !long.IsPow2(best.RegionSize) || best.DataSize / best.RegionSize >= IntentRecord.MostRegions)
            throw Refused(Errno.EINVAL, name, $"its superblock says {best.DataSize} bytes in regions of {best.RegionSize}, which cannot be", "The superblock was written by something else: clear the last 64 KiB of the members to begin anew");
        var members = new MirrorMember[devices.Count];
        bool isWhole = true;
        bool all = false;
        for (int i = 0; i < devices.Count; i++)
        {
            if (found[i] is { } own)
                Check(name, devices[i], own, best, i);
            bool belongs = found[i] is { } mine && mine.Members[i] == best.Members[i];
            MemberState state = !isThere[i] ? MemberState.Missing : belongs && best.States[i] == MemberState.InSync ? MemberState.InSync : readOnly ? MemberState.Missing : MemberState.Rebuilding;
            if (state == MemberState.Rebuilding)
            {
                isWhole = false;
                all |= !belongs || found[i]!.States[i] != MemberState.InSync;
                if (MetadataLayout.TailOf(devices[i].Capacity) < best.DataSize)
                    throw Refused(Errno.EINVAL, name, $"{devices[i].Name} is too small for the set", $"Give a device of {best.DataSize + MetadataLayout.TailSize} bytes or more");
            }

            members[i] = new MirrorMember(devices[i], belongs ? best.Members[i] : Guid.NewGuid(), state);
        }

        if (!Array.Exists(members, static m => m.State == MemberState.InSync))
            throw Refused(Errno.EIO, name, "no member that holds everything is there", "Give the member that was in step last");
        var dirty = new byte[(best.DataSize + best.RegionSize - 1) / best.RegionSize];
        ulong intents = 0;
        foreach (MirrorMember member in members.Where(static m => m.State == MemberState.InSync))
            intents = Math.Max(intents, ReadIntents(store, member, best.Set, dirty));
        if (!isWhole && all)
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

    private static void Check(string name, BlockDevice device, Superblock own, Superblock best, int index)
    {
        if (own.Set != best.Set)
            throw Refused(Errno.EINVAL, name, $"{device.Name} belongs to another set ({own.Set}, not {best.Set})", "Name members of one set, or clear the last 64 KiB of the one that is to join");
        if (own.Index != index)
            throw Refused(Errno.EINVAL, name, $"{device.Name} is member {own.Index} and is named as member {index}", "Name the members in their order");
        bool apart = own.States[index] == MemberState.InSync && own.States[best.Index] == MemberState.Missing && best.States[index] == MemberState.Missing;
        if (apart)
            throw Refused(Errno.EINVAL, name, $"members {best.Index} and {index} have each gone on without the other: nobody can say which is right", "Decide for one, and clear the last 64 KiB of the other");
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
