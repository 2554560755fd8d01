using DmaBufIo.Block;
using DmaBufIo.Plugins;

namespace DmaBufIo.Importers.StackedRaid.Striped;

/// <summary>The word <c>linear(A,B,…)</c>: one member after the other.</summary>
public sealed class LinearFactory : IBlockDeviceFactory
{
    /// <inheritdoc/>
    public string Word => "linear";

    /// <inheritdoc/>
    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        expression.AllowNoText();
        expression.AllowOnly();
        SetMembers.Check(expression, members, least: 1);
        int block = members.Max(static m => m.Limits.LogicalBlockSize);
        return new StripedDevice(SetNames.Next(Word), Word, members, new LinearLayout([.. members.Select(m => m.Capacity & -block)]));
    }

    /// <inheritdoc/>
    public long MemberCapacity(DeviceExpression expression, long capacity)
    {
        int members = Math.Max(1, expression.Members.Count);
        return ((capacity + members - 1) / members + 4095) & -4096;
    }
}
