using System.Buffers.Binary;
using System.Text;

namespace DmaBufIo.Pci.Model.Protocol;

/// <summary>Writes the Identify data structures (4,096 bytes each, zeroed by the caller) and the log pages that never change.</summary>
internal static class IdentifyData
{
    /// <summary>Bytes of every Identify data structure.</summary>
    internal const int Size = 4096;

    /// <summary>Vendor of the model: not assigned to anybody.</summary>
    internal const ushort Vendor = 0xDB10;

    /// <summary>Device of the model.</summary>
    internal const ushort Device = 0x0001;

    /// <summary>NVMe 1.4, as in the VS register.</summary>
    internal const uint Version = 0x0001_0400;

    /// <summary>Asynchronous event requests that may be outstanding; Identify reports one less.</summary>
    internal const int AsyncEventRequests = 4;

    /// <summary>Composite temperature reported, in kelvins.</summary>
    internal const ushort Temperature = 310;

    /// <summary>Composite temperature of the warning threshold, in kelvins: also the default of its feature.</summary>
    internal const ushort WarningTemperature = 343;

    private const string FirmwareRevision = "0.1";

    /// <summary>CNS 01h.</summary>
    internal static void Controller(Span<byte> data, NvmeModelOptions options, Guid uniqueId)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(data, Vendor);
        BinaryPrimitives.WriteUInt16LittleEndian(data[2..], Vendor);
        Text(data.Slice(4, 20), uniqueId.ToString("N")[..20].ToUpperInvariant());
        Text(data.Slice(24, 40), "DmaBufIo NVMe model");
        Text(data.Slice(64, 8), FirmwareRevision);
        data[72] = 3; // RAB: bursts of 8 commands are best, the most that one fetch brings
        data[77] = (byte)options.Mdts;
        BinaryPrimitives.WriteUInt32LittleEndian(data[80..], Version);
        data[111] = 1; // CNTRLTYPE: I/O controller
        data[258] = 3; // ACL
        data[259] = AsyncEventRequests - 1;
        data[260] = 0x03; // FRMW: one slot, read-only
        data[261] = 0x06; // LPA: effects log, extended data (offset and 32-bit length)
        data[262] = ErrorLog.Entries - 1;
        BinaryPrimitives.WriteUInt16LittleEndian(data[266..], WarningTemperature);
        BinaryPrimitives.WriteUInt16LittleEndian(data[268..], WarningTemperature + 10);
        data[512] = 0x66;
        data[513] = 0x44;
        BinaryPrimitives.WriteUInt32LittleEndian(data[516..], 1); // NN
        BinaryPrimitives.WriteUInt16LittleEndian(data[520..], 0x000C); // ONCS: Dataset Management, Write Zeroes
        data[525] = (byte)(options.VolatileWriteCache ? 0x07 : 0x06); // VWC: present; Flush takes the broadcast namespace
        Encoding.UTF8.GetBytes($"nqn.2014-08.org.nvmexpress:uuid:{uniqueId:D}", data[768..]);
        BinaryPrimitives.WriteUInt16LittleEndian(data[2048..], 2500); // power state 0: 25 W
    }

    /// <summary>CNS 00h.</summary>
    internal static void Namespace(Span<byte> data, NamespaceFacts facts)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(data, facts.Blocks);
        BinaryPrimitives.WriteUInt64LittleEndian(data[8..], facts.Blocks);
        BinaryPrimitives.WriteUInt64LittleEndian(data[16..], facts.Blocks);
        data[33] = 0x09; // DLFEAT: deallocated blocks read as zeros, Write Zeroes can deallocate
        data[99] = (byte)(facts.ReadOnly ? 1 : 0);
        Nguid(facts).CopyTo(data[104..]);
        data[130] = (byte)facts.LbaShift;
    }

    /// <summary>CNS 02h: the active namespaces above a number.</summary>
    internal static void ActiveNamespaces(Span<byte> data, uint above)
    {
        if (above == 0)
            BinaryPrimitives.WriteUInt32LittleEndian(data, 1);
    }

    /// <summary>CNS 03h: NGUID and UUID; the list ends with a zero type.</summary>
    internal static void NamespaceDescriptors(Span<byte> data, NamespaceFacts facts)
    {
        data[0] = 2;
        data[1] = 16;
        Nguid(facts).CopyTo(data[4..]);
        data[20] = 3;
        data[21] = 16;
        facts.UniqueId.TryWriteBytes(data[24..], bigEndian: true, out _);
    }

    /// <summary>Log page 03h, 512 bytes.</summary>
    internal static void FirmwareSlots(Span<byte> page)
    {
        page[0] = 1;
        Text(page.Slice(8, 8), FirmwareRevision);
    }

    /// <summary>Log page 05h, 4,096 bytes: supported, and for I/O commands whether blocks change.</summary>
    internal static void CommandEffects(Span<byte> page)
    {
        foreach (byte opcode in AdminOpcode.All)
            page[opcode * 4] = 1;
        foreach (byte opcode in IoOpcode.All)
            page[1024 + opcode * 4] = (byte)(opcode is IoOpcode.Write or IoOpcode.WriteZeroes or IoOpcode.DatasetManagement ? 3 : 1);
    }

    private static byte[] Nguid(NamespaceFacts facts) => facts.UniqueId.ToByteArray(bigEndian: true);

    private static void Text(Span<byte> field, string text)
    {
        field.Fill((byte)' ');
        Encoding.ASCII.GetBytes(text, field);
    }
}
