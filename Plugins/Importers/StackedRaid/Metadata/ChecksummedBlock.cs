using System.Buffers.Binary;
using System.Numerics;

namespace DmaBufIo.Importers.StackedRaid.Metadata;

/// <summary>The frame of everything a mirror writes about itself: magic, version, sequence number and a CRC-32C over the whole block.</summary>
/// <remarks>Little endian. 0: magic (8 bytes), 8: version (4), 12: CRC (4, taken as 0), 16: sequence (8), 24: identity of the set (16), 40: contents.</remarks>
internal static class ChecksummedBlock
{
    internal const int ContentsAt = 40;
    private const uint Version = 1;
    private const int CrcAt = 12;

    /// <summary>Fills in the frame around the contents.</summary>
    internal static void Seal(Span<byte> block, ulong magic, ulong sequence, Guid set)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(block, magic);
        BinaryPrimitives.WriteUInt32LittleEndian(block[8..], Version);
        BinaryPrimitives.WriteUInt32LittleEndian(block[CrcAt..], 0);
        BinaryPrimitives.WriteUInt64LittleEndian(block[16..], sequence);
        set.TryWriteBytes(block[24..]);
        BinaryPrimitives.WriteUInt32LittleEndian(block[CrcAt..], Crc(block));
    }

    /// <summary>Looks whether a block is whole and ours.</summary>
    /// <param name="block">The block; unchanged.</param>
    /// <param name="magic">What kind it must be.</param>
    /// <param name="sequence">Its sequence number.</param>
    /// <param name="set">The set it belongs to.</param>
    internal static bool TryOpen(ReadOnlySpan<byte> block, ulong magic, out ulong sequence, out Guid set)
    {
        sequence = BinaryPrimitives.ReadUInt64LittleEndian(block[16..]);
        set = new Guid(block.Slice(24, 16));
        if (BinaryPrimitives.ReadUInt64LittleEndian(block) != magic || BinaryPrimitives.ReadUInt32LittleEndian(block[8..]) != Version)
            return false;
        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(block[CrcAt..]);
        Span<byte> copy = stackalloc byte[MetadataLayout.BlockSize];
        block.CopyTo(copy);
        copy.Slice(CrcAt, 4).Clear();
        return Crc(copy[..block.Length]) == stored;
    }

    private static uint Crc(ReadOnlySpan<byte> block)
    {
        uint crc = uint.MaxValue;
        for (int i = 0; i < block.Length; i += 8)
            crc = BitOperations.Crc32C(crc, BinaryPrimitives.ReadUInt64LittleEndian(block[i..]));
        return ~crc;
    }
}
