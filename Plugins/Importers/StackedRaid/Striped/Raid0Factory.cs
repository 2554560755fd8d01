using DmaBufIo.Block;
using DmaBufIo.Plugins;

namespace DmaBufIo.Importers.StackedRaid.Striped;

/// <summary>The word <c>raid0[:CHUNK](A,B,…)</c>: chunks dealt out to the members in turn.</summary>
public sealed class Raid0Factory : IBlockDeviceFactory
{
    /// <inheritdoc/>
    public string Word => "raid0";

    /// <inheritdoc/>
    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        expression.AllowOnly();
        return Create(expression, members, ChunkOf(expression), Word);
    }

    /// <inheritdoc/>
    public long MemberCapacity(DeviceExpression expression, long capacity) => MemberCapacity(expression.Members.Count, ChunkOf(expression), capacity);

    internal static StripedDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members, long chunk, string word)
    {
        SetMembers.Check(expression, members, least: 1);
        long smallest = members.Min(static m => m.Capacity);
        if (members.Max(static m => m.Limits.LogicalBlockSize) > chunk)
            throw expression.Broken(expression.Position, $"the chunk of {chunk} bytes is smaller than a member's logical block", "Give a larger chunk");
        if (smallest < chunk)
            throw expression.Broken(expression.Position, $"the smallest member has {smallest} bytes, less than one chunk of {chunk}", "Give larger members, or a smaller chunk");
        return new StripedDevice(SetNames.Next(word), $"{word} in chunks of {chunk}", members, new ChunkLayout(members.Count, chunk, smallest));
    }

    internal static long MemberCapacity(int members, long chunk, long capacity)
    {
        long row = chunk * Math.Max(1, members);
        return (capacity + row - 1) / row * chunk;
    }

    /// <summary>The chunk: the text after the colon.</summary>
    internal static long ChunkOf(DeviceExpression expression)
    {
        if (expression.Text is null)
            return 64 << 10;
        int position = expression.Position + expression.Word.Length + 1;
        return DeviceExpression.TryParseSize(expression.Text, out long chunk) && chunk is >= 4096 and <= 1 << 30 && long.IsPow2(chunk)
            ? chunk
            : throw expression.Broken(position, $"'{expression.Text}' is no chunk", "Write a power of two from 4K to 1G, for example raid0:64K(A,B)");
    }
}
