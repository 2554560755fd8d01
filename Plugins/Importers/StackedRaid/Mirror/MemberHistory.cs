using DmaBufIo.Importers.StackedRaid.Metadata;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <summary>What a device can be for a set.</summary>
internal enum Standing
{
    /// <summary>It holds everything, but for what the record of intents says.</summary>
    HoldsEverything,

    /// <summary>It held everything when it was lost: it lacks what was written since, and that is in the record.</summary>
    LacksSome,

    /// <summary>It is new, an old image of a member, or was never in step.</summary>
    LacksEverything,

    /// <summary>It has gone on without the set: it may hold acknowledged writes that the set lacks.</summary>
    WentOn,
}

/// <summary>Judges a device by its own superblock, beside the newest one of the set.</summary>
/// <remarks>
/// Superblocks are numbered, and written member by member. Each says which one every member is known to have (<see cref="Superblock.Told"/>): all of the one before when all was well, for none is
/// begun before the last one has reached everybody or its member was dropped. So a crash leaves a member with the superblock that it is said to have, or with a newer one; what is older was
/// copied from somewhere. A set that is opened for writing numbers two superblocks before it acknowledges a write: an image of an earlier assembly is older than what the second one says.
/// A device has gone on without the set when its own superblock counts on itself, and on nobody who belongs to the set: who parts from the set takes no member along that stays in it.
/// </remarks>
internal static class MemberHistory
{
    /// <summary>Judges a device.</summary>
    /// <param name="own">Its superblock, of the same set, or null.</param>
    /// <param name="index">The number under which it is given.</param>
    /// <param name="set">The newest superblock of the set, or what that would be now.</param>
    internal static Standing Of(Superblock? own, int index, Superblock set)
    {
        if (own is null)
            return Standing.LacksEverything;
        bool isKnown = own.Index == index && own.Members[index] == set.Members[index] && own.Sequence >= set.Told[index];
        if (isKnown && set.States[index] == MemberState.InSync)
            return Standing.HoldsEverything;
        if (HasGoneOn(own, set))
            return Standing.WentOn;
        bool wasWhole = isKnown && set.Told[index] != 0 && own.States[index] == MemberState.InSync;
        return wasWhole ? Standing.LacksSome : Standing.LacksEverything;
    }

    /// <summary>
    /// True when the newest superblock counts on a member that is not there as it knows it: who is not there may have gone on without the one that has this superblock (mdadm's rule).
    /// What was not told anything yet has nothing: then the set was not opened, or the member not taken in.
    /// </summary>
    internal static bool IsMissed(Superblock? own, int index, Superblock set, bool isThere)
    {
        if (set.States[index] == MemberState.Missing)
            return false;
        if (!isThere)
            return true;
        return set.Told[index] != 0 && (own is null || own.Members[index] != set.Members[index] || own.Sequence < set.Told[index]);
    }

    private static bool HasGoneOn(Superblock own, Superblock set)
    {
        if (own.States[own.Index] != MemberState.InSync)
            return false;
        for (int i = 0; i < own.Members.Count; i++)
        {
            if (i != own.Index && own.States[i] != MemberState.Missing && i < set.Members.Count && own.Members[i] == set.Members[i])
                return false;
        }

        return true;
    }
}
