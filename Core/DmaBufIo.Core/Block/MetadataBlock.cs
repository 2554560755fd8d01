using System.Buffers.Binary;
using System.Numerics;

namespace DmaBufIo.Block;

/// <summary>
/// The frame of what stacking drivers write about themselves to their members: magic, version, number, identity, and a CRC-32C over the whole block, so that a block that was torn or is
/// somebody else's is told from one that is whole. Write two places in turn, by the number: a torn write leaves the other.
/// </summary>
/// <remarks>Little endian. 0: magic (8 bytes), 8: version (4), 12: CRC (4, taken as 0), 16: number (8), 24: identity (16), 40: contents.</remarks>
public static class MetadataBlock
{
    private const uint Version = 1;
    private const int CrcAt = 12;

    /// <summary>First byte of the contents.</summary>
    public static int ContentsAt => 40;

    /// <summary>Fills in the frame around the contents.</summary>
    /// <param name="block">The block, a multiple of 8 bytes.</param>
    /// <param name="magic">What kind it is.</param>
    /// <param name="number">Counts the blocks of this kind: the highest is the truth.</param>
    /// <param name="identity">To whom it belongs.</param>
    public static void Seal(Span<byte> block, ulong magic, ulong number, Guid identity)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(block, magic);
        BinaryPrimitives.WriteUInt32LittleEndian(block[8..], Version);
        BinaryPrimitives.WriteUInt32LittleEndian(block[CrcAt..], 0);
        BinaryPrimitives.WriteUInt64LittleEndian(block[16..], number);
        identity.TryWriteBytes(block[24..]);
        BinaryPrimitives.WriteUInt32LittleEndian(block[CrcAt..], Crc(block));
    }

    /// <summary>Looks whether a block is whole and of a kind.</summary>
    /// <param name="block">The block; unchanged.</param>
    /// <param name="magic">The kind.</param>
    /// <param name="number">Its number.</param>
    /// <param name="identity">To whom it belongs.</param>
    /// <returns>False when it is torn, or something else.</returns>
    public static bool TryOpen(ReadOnlySpan<byte> block, ulong magic, out ulong number, out Guid identity)
    {
        number = BinaryPrimitives.ReadUInt64LittleEndian(block[16..]);
        identity = new Guid(block.Slice(24, 16));
        return BinaryPrimitives.ReadUInt64LittleEndian(block) == magic
            && BinaryPrimitives.ReadUInt32LittleEndian(block[8..]) == Version
            && BinaryPrimitives.ReadUInt32LittleEndian(block[CrcAt..]) == Crc(block);
    }

    private static uint Crc(ReadOnlySpan<byte> block)
    {
        uint crc = uint.MaxValue;
        for (int i = 0; i < block.Length; i += 8)
        {
            // The checksum's own place counts as 0.
            ulong eight = BinaryPrimitives.ReadUInt64LittleEndian(block[i..]);
            crc = BitOperations.Crc32C(crc, i == 8 ? (uint)eight : eight);
        }

        return ~crc;
    }
}
