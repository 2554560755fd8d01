using DmaBufIo.Block;
using DmaBufIo.Plugins;

namespace DmaBufIo.Importers.StackedRaid;

/// <summary>What every set asks of its members.</summary>
internal static class SetMembers
{
    private const int Most = 256;

    /// <summary>What the user calls a member, with the name it has in messages of other layers.</summary>
    internal static string LabelOf(BlockDevice member, DeviceExpression expression) => $"{expression.Brief} ({member.Name})";

    /// <summary>Checks number and kind.</summary>
    /// <exception cref="Errors.DmaBufIoException">Too few, too many, or one twice (<c>EINVAL</c>); the message points at it.</exception>
    internal static void Check(DeviceExpression expression, IReadOnlyList<BlockDevice> members, int least)
    {
        if (members.Count < least)
            throw expression.Broken(expression.Position, $"'{expression.Word}' needs {least} or more members and has {members.Count}", $"Write for example {expression.Word}(A,B)");
        if (members.Count > Most)
            throw expression.Broken(expression.Members[Most].Position, $"a set has {Most} members at most", "Nest sets to make larger ones");
        for (int i = 0; i < members.Count; i++)
        {
            for (int j = 0; j < i; j++)
            {
                if (ReferenceEquals(members[i], members[j]))
                    throw expression.Broken(expression.Members[i].Position, $"{LabelOf(members[i], expression.Members[i])} is a member twice", "Name each device once");
            }
        }
    }
}
