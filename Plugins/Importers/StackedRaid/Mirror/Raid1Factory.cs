using DmaBufIo.Block;
using DmaBufIo.Importers.StackedRaid.Metadata;
using DmaBufIo.Plugins;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <summary>The word <c>raid1(A,B,…)</c>: every member holds everything.</summary>
public sealed class Raid1Factory : IBlockDeviceFactory
{
    /// <inheritdoc/>
    public string Word => "raid1";

    /// <inheritdoc/>
    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        expression.AllowNoText();
        expression.AllowOnly();
        return Create(expression, members, Word);
    }

    /// <inheritdoc/>
    public long MemberCapacity(DeviceExpression expression, long capacity) => Grown(capacity);

    internal static MirrorSet Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members, string word)
    {
        SetMembers.Check(expression, members, least: 2);
        if (members.Count > MirrorSet.MostMembers)
            throw expression.Broken(expression.Position, $"a mirror has {MirrorSet.MostMembers} members at most", "Leave some out");
        return MirrorSet.Assemble(SetNames.Next(word), members);
    }

    /// <summary>Bytes of a member for so many bytes of data.</summary>
    internal static long Grown(long capacity) => ((capacity + MetadataLayout.BlockSize - 1) & -MetadataLayout.BlockSize) + MetadataLayout.TailSize;
}
