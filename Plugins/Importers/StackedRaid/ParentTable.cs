using DmaBufIo.Block;
using DmaBufIo.Errors;

namespace DmaBufIo.Importers.StackedRaid;

/// <summary>What a queue of a set knows of the bios it was given, by their place in their pool: how many parts are under way, and the first error.</summary>
internal sealed class ParentTable(BioPool bios)
{
    private readonly Parent[] _parents = new Parent[bios.Capacity];

    internal ref Parent this[int bio] => ref _parents[bio];

    /// <summary>One bio under way.</summary>
    internal struct Parent
    {
        /// <summary>Parts that have not ended.</summary>
        internal int Pending;

        /// <summary>The first error of a part.</summary>
        internal Errno Status;
    }
}

/// <summary>The cookie of a part: which bio it is a part of, and which member it went to.</summary>
internal static class PartCookie
{
    internal static long Of(BioHandle parent, int member) => (uint)parent.Index | ((long)member << 32);

    internal static BioHandle ParentOf(long cookie) => new((int)cookie);

    internal static int MemberOf(long cookie) => (int)(cookie >> 32);
}
