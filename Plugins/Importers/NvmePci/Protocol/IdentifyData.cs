using System.Buffers.Binary;
using System.Text;

namespace DmaBufIo.Importers.NvmePci.Protocol;

/// <summary>What the driver takes from the Identify Controller data structure (CNS 01h).</summary>
/// <param name="Serial">Serial number, without padding.</param>
/// <param name="Model">Model number, without padding.</param>
/// <param name="Firmware">Firmware revision, without padding.</param>
/// <param name="TransferShift">MDTS: the largest transfer as a power of two of the smallest page; 0 is no limit (P12).</param>
internal sealed record ControllerIdentity(string Serial, string Model, string Firmware, int TransferShift)
{
    internal static ControllerIdentity Parse(ReadOnlySpan<byte> data) =>
        new(Text(data.Slice(4, 20)), Text(data.Slice(24, 40)), Text(data.Slice(64, 8)), data[77]);

    private static string Text(ReadOnlySpan<byte> field) => Encoding.ASCII.GetString(field).TrimEnd(' ', '\0').TrimStart(' ');
}

/// <summary>What the driver takes from the Identify Namespace data structure (CNS 00h).</summary>
/// <param name="Blocks">NSZE: logical blocks.</param>
/// <param name="BlockShift">The logical block as a power of two.</param>
/// <param name="MetadataSize">Bytes of metadata per logical block.</param>
/// <param name="IsWriteProtected">NSATTR bit 0.</param>
internal readonly record struct NamespaceIdentity(ulong Blocks, int BlockShift, int MetadataSize, bool IsWriteProtected)
{
    internal static NamespaceIdentity Parse(ReadOnlySpan<byte> data)
    {
        // FLBAS: bits 3:0 are the low, bits 6:5 the high bits of the format's number.
        int flbas = data[26];
        int format = (flbas & 0xF) | ((flbas >> 5 & 3) << 4);
        uint description = BinaryPrimitives.ReadUInt32LittleEndian(data[(128 + format * 4)..]);
        return new NamespaceIdentity(
            BinaryPrimitives.ReadUInt64LittleEndian(data),
            (int)(description >> 16) & 0xFF,
            (int)(description & 0xFFFF),
            (data[99] & 1) != 0);
    }
}
