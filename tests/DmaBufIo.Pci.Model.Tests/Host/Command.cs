using System.Buffers.Binary;

namespace DmaBufIo.Pci.Model.Tests.Host;

/// <summary>A submission queue entry under construction.</summary>
internal record struct Command
{
    public byte Opcode { get; set; }

    /// <summary>FUSE and PSDT: byte 1 of the entry.</summary>
    public byte Flags { get; set; }

    public ushort Id { get; set; }

    public uint Nsid { get; set; }

    public uint Cdw2 { get; set; }

    public uint Cdw3 { get; set; }

    public ulong Mptr { get; set; }

    public ulong Prp1 { get; set; }

    public ulong Prp2 { get; set; }

    public uint Cdw10 { get; set; }

    public uint Cdw11 { get; set; }

    public uint Cdw12 { get; set; }

    public uint Cdw13 { get; set; }

    public uint Cdw14 { get; set; }

    public uint Cdw15 { get; set; }

    public static Command Io(byte opcode, ulong lba, int blocks, ulong prp1 = 0, ulong prp2 = 0) => new()
    {
        Opcode = opcode,
        Nsid = 1,
        Prp1 = prp1,
        Prp2 = prp2,
        Cdw10 = (uint)lba,
        Cdw11 = (uint)(lba >> 32),
        Cdw12 = (uint)(blocks - 1),
    };

    public readonly void CopyTo(Span<byte> entry)
    {
        entry[0] = Opcode;
        entry[1] = Flags;
        BinaryPrimitives.WriteUInt16LittleEndian(entry[2..], Id);
        Span<uint> dwords = [Nsid, Cdw2, Cdw3];
        for (int i = 0; i < 3; i++)
            BinaryPrimitives.WriteUInt32LittleEndian(entry[(4 + i * 4)..], dwords[i]);
        BinaryPrimitives.WriteUInt64LittleEndian(entry[16..], Mptr);
        BinaryPrimitives.WriteUInt64LittleEndian(entry[24..], Prp1);
        BinaryPrimitives.WriteUInt64LittleEndian(entry[32..], Prp2);
        dwords = [Cdw10, Cdw11, Cdw12, Cdw13, Cdw14, Cdw15];
        for (int i = 0; i < 6; i++)
            BinaryPrimitives.WriteUInt32LittleEndian(entry[(40 + i * 4)..], dwords[i]);
    }
}

/// <summary>A completion queue entry, taken apart.</summary>
internal readonly record struct Completion(uint Result, int SqHead, int SqId, ushort Id, int Status)
{
    /// <summary>SCT and SC.</summary>
    public int Code => Status & 0x7FF;

    public bool More => (Status & 0x2000) != 0;

    public bool DoNotRetry => (Status & 0x4000) != 0;
}
