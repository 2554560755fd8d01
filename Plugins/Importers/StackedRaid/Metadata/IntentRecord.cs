using DmaBufIo.Block;

namespace DmaBufIo.Importers.StackedRaid.Metadata;

/// <summary>Which regions of a mirror may differ between its members: a bit each, set and durable before the first write into the region goes out.</summary>
internal static class IntentRecord
{
    /// <summary>Regions that fit.</summary>
    internal static int MostRegions => (MetadataLayout.BlockSize - MetadataBlock.ContentsAt) * 8;
    private const ulong Magic = 0x3142_4952_4f49_4244; // "DBIORIB1"

    /// <summary>Writes the record as bytes.</summary>
    /// <param name="block">Where.</param>
    /// <param name="set">The set.</param>
    /// <param name="sequence">Counts the records.</param>
    /// <param name="dirty">By region, not 0: it may differ.</param>
    internal static void Write(Span<byte> block, Guid set, ulong sequence, ReadOnlySpan<byte> dirty)
    {
        block.Clear();
        Span<byte> bits = block[MetadataBlock.ContentsAt..];
        for (int i = 0; i < dirty.Length; i++)
        {
            if (dirty[i] != 0)
                bits[i >> 3] |= (byte)(1 << (i & 7));
        }

        MetadataBlock.Seal(block, Magic, sequence, set);
    }

    /// <summary>Adds the regions of a record.</summary>
    /// <param name="block">The bytes.</param>
    /// <param name="set">The set it must belong to.</param>
    /// <param name="sequence">Its number.</param>
    /// <param name="dirty">By region: set to 1 where the record says so.</param>
    /// <returns>False when it is not a whole record of this set; then nothing was added.</returns>
    internal static bool TryRead(ReadOnlySpan<byte> block, Guid set, out ulong sequence, Span<byte> dirty)
    {
        if (!MetadataBlock.TryOpen(block, Magic, out sequence, out Guid owner) || owner != set)
            return false;
        ReadOnlySpan<byte> bits = block[MetadataBlock.ContentsAt..];
        for (int i = 0; i < dirty.Length; i++)
        {
            if ((bits[i >> 3] & (1 << (i & 7))) != 0)
                dirty[i] = 1;
        }

        return true;
    }
}
