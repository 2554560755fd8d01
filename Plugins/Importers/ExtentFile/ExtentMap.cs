using System.Buffers.Binary;
using System.Text;
using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;

namespace DmaBufIo.Importers.ExtentFile;

/// <summary>A file of a volume.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Size">Bytes; its extents hold as many, rounded up.</param>
/// <param name="Extents">Where its bytes lie, in order.</param>
internal sealed record ExtentEntry(string Name, long Size, IReadOnlyList<FileExtent> Extents);

/// <summary>What a volume knows: its files and where they lie. Checksummed, and written to two places of every device in turn.</summary>
/// <param name="Volume">The volume's identity.</param>
/// <param name="Number">Counts the changes.</param>
/// <param name="Devices">How many devices the volume has.</param>
/// <param name="Files">The files.</param>
internal sealed record ExtentMap(Guid Volume, ulong Number, int Devices, IReadOnlyList<ExtentEntry> Files)
{
    /// <summary>Bytes of the map.</summary>
    internal const int Size = 16 << 10;

    /// <summary>Bytes at the start of each device that belong to the volume: two places for the map.</summary>
    internal const long HeaderSize = 64 << 10;

    /// <summary>Extents begin and end on multiples of it: on any device's logical block.</summary>
    internal const long Unit = 4096;

    private const ulong Magic = 0x3142_5845_4f49_4244; // "DBIOEXB1"

    /// <summary>Where a map of this number lies on each device.</summary>
    internal static long PlaceOf(ulong number) => (long)(number & 1) * Size;

    /// <summary>Writes the map as bytes.</summary>
    /// <param name="block">Where.</param>
    /// <param name="device">The number of the device it is for.</param>
    /// <exception cref="DmaBufIoException">It does not fit (<c>ENOSPC</c>).</exception>
    internal void Write(Span<byte> block, int device)
    {
        block.Clear();
        Span<byte> rest = block[MetadataBlock.ContentsAt..];
        BinaryPrimitives.WriteInt32LittleEndian(rest, Devices);
        BinaryPrimitives.WriteInt32LittleEndian(rest[4..], device);
        BinaryPrimitives.WriteInt32LittleEndian(rest[8..], Files.Count);
        rest = rest[16..];
        foreach (ExtentEntry file in Files)
        {
            byte[] name = Encoding.UTF8.GetBytes(file.Name);
            if (rest.Length < 24 + name.Length + 8 + (file.Extents.Count * 24))
                throw new DmaBufIoException(Errno.ENOSPC, ExtentFilePlugin.PluginName, file.Name, $"the volume's map of {Size} bytes is full", "Use fewer files, or another volume");
            BinaryPrimitives.WriteInt32LittleEndian(rest, name.Length);
            BinaryPrimitives.WriteInt32LittleEndian(rest[4..], file.Extents.Count);
            BinaryPrimitives.WriteInt64LittleEndian(rest[8..], file.Size);
            name.CopyTo(rest[16..]);
            rest = rest[((16 + name.Length + 7) & -8)..];
            foreach (FileExtent extent in file.Extents)
            {
                BinaryPrimitives.WriteInt64LittleEndian(rest, extent.Device);
                BinaryPrimitives.WriteInt64LittleEndian(rest[8..], extent.Start);
                BinaryPrimitives.WriteInt64LittleEndian(rest[16..], extent.Length);
                rest = rest[24..];
            }
        }

        MetadataBlock.Seal(block, Magic, Number, Volume);
    }

    /// <summary>Reads a map.</summary>
    /// <param name="block">The bytes.</param>
    /// <param name="device">The number of the device that it says it is for.</param>
    /// <returns>Null when it is none, or not whole.</returns>
    internal static ExtentMap? Read(ReadOnlySpan<byte> block, out int device)
    {
        device = 0;
        if (!MetadataBlock.TryOpen(block, Magic, out ulong number, out Guid volume))
            return null;
        ReadOnlySpan<byte> rest = block[MetadataBlock.ContentsAt..];
        int devices = BinaryPrimitives.ReadInt32LittleEndian(rest);
        device = BinaryPrimitives.ReadInt32LittleEndian(rest[4..]);
        int files = BinaryPrimitives.ReadInt32LittleEndian(rest[8..]);
        rest = rest[16..];
        var found = new List<ExtentEntry>();
        for (int i = 0; i < files; i++)
        {
            // Whole by its checksum; what its writer has counted wrong is no map all the same.
            if (rest.Length < 16)
                return null;
            int length = BinaryPrimitives.ReadInt32LittleEndian(rest);
            int extents = BinaryPrimitives.ReadInt32LittleEndian(rest[4..]);
            long size = BinaryPrimitives.ReadInt64LittleEndian(rest[8..]);
            if (length < 0 || extents < 0 || size < 0 || length > rest.Length - 16 || extents > rest.Length / 24)
                return null;
            string name = Encoding.UTF8.GetString(rest.Slice(16, length));
            rest = rest[Math.Min(rest.Length, (16 + length + 7) & -8)..];
            var list = new FileExtent[extents];
            for (int e = 0; e < extents; e++)
            {
                if (rest.Length < 24)
                    return null;
                list[e] = new FileExtent(
                    (int)BinaryPrimitives.ReadInt64LittleEndian(rest), BinaryPrimitives.ReadInt64LittleEndian(rest[8..]), BinaryPrimitives.ReadInt64LittleEndian(rest[16..]));
                rest = rest[24..];
            }

            found.Add(new ExtentEntry(name, size, list));
        }

        return new ExtentMap(volume, number, devices, found);
    }
}
