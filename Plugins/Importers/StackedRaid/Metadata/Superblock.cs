using System.Buffers.Binary;
using DmaBufIo.Block;
using DmaBufIo.Importers.StackedRaid.Mirror;

namespace DmaBufIo.Importers.StackedRaid.Metadata;

/// <summary>What every member of a mirror knows of the set: who belongs to it, and who was in step when this was written.</summary>
internal sealed record Superblock
{
    private const ulong Magic = 0x3142_5352_4f49_4244; // "DBIORSB1"
    private static int MembersAt => MetadataBlock.ContentsAt + 32;
    private static int ToldAt => MembersAt + (MirrorSet.MostMembers * 20);

    /// <summary>The set's identity.</summary>
    internal required Guid Set { get; init; }

    /// <summary>Counts the changes of the set: the highest is the truth.</summary>
    internal required ulong Sequence { get; init; }

    /// <summary>The number of the member that this copy lies on.</summary>
    internal required int Index { get; init; }

    /// <summary>Bytes of the set.</summary>
    internal required long DataSize { get; init; }

    /// <summary>Bytes of a region of the record of intents.</summary>
    internal required long RegionSize { get; init; }

    /// <summary>The members' identities, by number.</summary>
    internal required IReadOnlyList<Guid> Members { get; init; }

    /// <summary>Their states, by number.</summary>
    internal required IReadOnlyList<MemberState> States { get; init; }

    /// <summary>By number: the superblock that the member is known to have had when this one was written; 0 when it is not known to have any. A member whose own is older is an old image of itself.</summary>
    internal required IReadOnlyList<ulong> Told { get; init; }

    /// <summary>Which of its two places on the member it was read from.</summary>
    internal int Place { get; init; }

    /// <summary>Writes the superblock as bytes.</summary>
    internal void Write(Span<byte> block)
    {
        block.Clear();
        Span<byte> contents = block[MetadataBlock.ContentsAt..];
        BinaryPrimitives.WriteInt32LittleEndian(contents, Index);
        BinaryPrimitives.WriteInt32LittleEndian(contents[4..], Members.Count);
        BinaryPrimitives.WriteInt64LittleEndian(contents[8..], DataSize);
        BinaryPrimitives.WriteInt64LittleEndian(contents[16..], RegionSize);
        for (int i = 0; i < Members.Count; i++)
        {
            Members[i].TryWriteBytes(block[(MembersAt + (i * 20))..]);
            BinaryPrimitives.WriteInt32LittleEndian(block[(MembersAt + (i * 20) + 16)..], (int)States[i]);
            BinaryPrimitives.WriteUInt64LittleEndian(block[(ToldAt + (i * 8))..], Told[i]);
        }

        MetadataBlock.Seal(block, Magic, Sequence, Set);
    }

    /// <summary>Reads a superblock.</summary>
    /// <returns>Null when the bytes are none, or not a whole one.</returns>
    internal static Superblock? Read(ReadOnlySpan<byte> block)
    {
        if (!MetadataBlock.TryOpen(block, Magic, out ulong sequence, out Guid set))
            return null;
        ReadOnlySpan<byte> contents = block[MetadataBlock.ContentsAt..];
        int count = BinaryPrimitives.ReadInt32LittleEndian(contents[4..]);
        if (count is < 1 or > MirrorSet.MostMembers)
            return null;
        var members = new Guid[count];
        var states = new MemberState[count];
        var told = new ulong[count];
        for (int i = 0; i < count; i++)
        {
            members[i] = new Guid(block.Slice(MembersAt + (i * 20), 16));
            states[i] = (MemberState)BinaryPrimitives.ReadInt32LittleEndian(block[(MembersAt + (i * 20) + 16)..]);
            told[i] = BinaryPrimitives.ReadUInt64LittleEndian(block[(ToldAt + (i * 8))..]);
        }

        int index = BinaryPrimitives.ReadInt32LittleEndian(contents);
        if ((uint)index >= (uint)count)
            return null;
        return new Superblock
        {
            Set = set,
            Sequence = sequence,
            Index = index,
            DataSize = BinaryPrimitives.ReadInt64LittleEndian(contents[8..]),
            RegionSize = BinaryPrimitives.ReadInt64LittleEndian(contents[16..]),
            Members = members,
            States = states,
            Told = told,
        };
    }
}
