using DmaBufIo.Block;
using DmaBufIo.Importers.StackedRaid.Metadata;
using DmaBufIo.Plugins;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <summary>The word <c>raid1(A,B,…)</c>: every member holds everything.</summary>
public sealed class Raid1Factory : IBlockDeviceFactory
{
    /// <summary>The text, or option, with which a mirror goes on without members that are lost.</summary>
    internal const string Degraded = "degraded";

    /// <inheritdoc/>
    public string Word => "raid1";

    /// <inheritdoc/>
    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        expression.AllowOnly();
        if (expression.Text is not (null or Degraded))
            throw expression.Broken(expression.Position + Word.Length + 1, $"'{Word}' takes no text but '{Degraded}'", $"Write {Word}(A,B); or {Word}:{Degraded}(A,B) to go on without members that are lost for good");
        return Create(expression, members, expression.Members, Word, expression.Text is not null);
    }

    /// <inheritdoc/>
    public bool TakesAbsentMembers => true;

    /// <inheritdoc/>
    public DeviceMark? Look(BlockDevice device)
    {
        using var store = new MirrorStore(device.Name);
        store.Attach(device);
        return AssemblyPlan.ReadSuperblock(store, device, device.Name) is { } found
            ? new DeviceMark(
                $"member {found.Index} of the mirror {found.Set}", [Word, "raid10"], MetadataLayout.TailOf(device.Capacity), device.Capacity - MetadataLayout.TailOf(device.Capacity), Grown(found.DataSize))
            : null;
    }

    /// <inheritdoc/>
    public long MemberCapacity(DeviceExpression expression, long capacity) => Grown(capacity);

    /// <summary>One mirror of an expression.</summary>
    /// <param name="expression">The whole.</param>
    /// <param name="members">The devices of this mirror.</param>
    /// <param name="parts">Their expressions.</param>
    /// <param name="word">For its name.</param>
    /// <param name="degraded">Go on without members that the newest superblock counts on.</param>
    internal static MirrorSet Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members, IReadOnlyList<DeviceExpression> parts, string word, bool degraded)
    {
        SetMembers.Check(expression, members, least: 2);
        if (members.Count > MirrorSet.MostMembers)
            throw expression.Broken(expression.Position, $"a mirror has {MirrorSet.MostMembers} members at most", "Leave some out");
        return MirrorSet.Assemble(new AssemblyRequest(SetNames.Next(word), members, [.. members.Select((m, i) => SetMembers.LabelOf(m, parts[i]))], degraded));
    }

    /// <summary>Bytes of a member for so many bytes of data.</summary>
    internal static long Grown(long capacity) => ((capacity + MetadataLayout.BlockSize - 1) & -MetadataLayout.BlockSize) + MetadataLayout.TailSize;
}
