using DmaBufIo.Block;
using DmaBufIo.Importers.StackedRaid.Striped;
using DmaBufIo.Plugins;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <summary>The word <c>raid10[:CHUNK](A,B,C,D,…)</c>: mirrors of neighbours, and chunks dealt out to the mirrors in turn.</summary>
public sealed class Raid10Factory : IBlockDeviceFactory
{
    /// <inheritdoc/>
    public string Word => "raid10";

    /// <inheritdoc/>
    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        expression.AllowOnly("copies", Raid1Factory.Degraded);
        long chunk = Raid0Factory.ChunkOf(expression);
        int copies = CopiesOf(expression);
        SetMembers.Check(expression, members, least: copies);
        if (members.Count % copies != 0)
            throw expression.Broken(expression.Position, $"{members.Count} members do not make mirrors of {copies}", $"Give a multiple of {copies} members");
        bool degraded = expression.Switch(Raid1Factory.Degraded, fallback: false);
        var mirrors = new List<MirrorSet>();
        try
        {
            for (int i = 0; i < members.Count; i += copies)
                mirrors.Add(Raid1Factory.Create(expression, [.. members.Skip(i).Take(copies)], [.. expression.Members.Skip(i).Take(copies)], "raid1", degraded));
            return new Raid10Device(Raid0Factory.Create(expression, mirrors, chunk, Word), mirrors);
        }
        catch
        {
            foreach (MirrorSet mirror in mirrors)
                mirror.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public bool TakesAbsentMembers => true;

    /// <inheritdoc/>
    public long MemberCapacity(DeviceExpression expression, long capacity) =>
        Raid1Factory.Grown(Raid0Factory.MemberCapacity(Math.Max(1, expression.Members.Count / CopiesOf(expression)), Raid0Factory.ChunkOf(expression), capacity));

    private static int CopiesOf(DeviceExpression expression) => expression.Size("copies", 2) is >= 2 and <= MirrorSet.MostMembers and var copies
        ? (int)copies
        : throw expression.Broken(expression.Options["copies"].Position, "the number of copies must be from 2 to 16", "Write for example copies=2");
}
