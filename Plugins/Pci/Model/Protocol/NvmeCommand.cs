using System.Buffers.Binary;

namespace DmaBufIo.Pci.Model.Protocol;

/// <summary>A submission queue entry, read in place. Little-endian on every host.</summary>
internal readonly ref struct NvmeCommand(ReadOnlySpan<byte> entry)
{
    /// <summary>Bytes of an entry (CC.IOSQES 6).</summary>
    internal const int Size = 64;

    private readonly ReadOnlySpan<byte> _entry = entry;

    internal uint Cdw0 => Dword(0);

    internal byte Opcode => _entry[0];

    /// <summary>Fused operation: 0 is none.</summary>
    internal int Fuse => _entry[1] & 3;

    /// <summary>PRP or SGL for the data transfer: 0 is PRP.</summary>
    internal int Psdt => _entry[1] >> 6;

    internal ushort CommandId => BinaryPrimitives.ReadUInt16LittleEndian(_entry[2..]);

    internal uint NamespaceId => Dword(4);

    internal uint Cdw2 => Dword(8);

    internal uint Cdw3 => Dword(12);

    internal ulong MetadataPointer => Qword(16);

    internal ulong Prp1 => Qword(24);

    internal ulong Prp2 => Qword(32);

    internal uint Cdw10 => Dword(40);

    internal uint Cdw11 => Dword(44);

    internal uint Cdw12 => Dword(48);

    internal uint Cdw13 => Dword(52);

    internal uint Cdw14 => Dword(56);

    internal uint Cdw15 => Dword(60);

    /// <summary>Starting LBA of commands that have one.</summary>
    internal ulong StartingLba => Qword(40);

    /// <summary>Number of logical blocks of commands that have one; the field is 0's based.</summary>
    internal int BlockCount => (int)(Cdw12 & 0xFFFF) + 1;

    /// <summary>Force Unit Access of commands that have it.</summary>
    internal bool ForceUnitAccess => (Cdw12 & (1u << 30)) != 0;

    private uint Dword(int offset) => BinaryPrimitives.ReadUInt32LittleEndian(_entry[offset..]);

    private ulong Qword(int offset) => BinaryPrimitives.ReadUInt64LittleEndian(_entry[offset..]);
}
