using System.Runtime.InteropServices;

namespace DmaBufIo.Importers.NvmePci.Protocol;

/// <summary>A submission queue entry: 64 bytes, little-endian.</summary>
[StructLayout(LayoutKind.Explicit, Size = 64)]
internal struct NvmeCommand
{
    /// <summary>Opcode in bits 7:0, command identifier in bits 31:16; the rest 0: no fused operation, PRP.</summary>
    [FieldOffset(0)]
    internal uint Dword0;

    /// <summary>Dwords 0 and 1 at once.</summary>
    [FieldOffset(0)]
    internal ulong Dwords01;

    /// <summary>The namespace; 0 when the command concerns none.</summary>
    [FieldOffset(4)]
    internal uint NamespaceId;

    /// <summary>First PRP entry, or 0 without data.</summary>
    [FieldOffset(24)]
    internal ulong Prp1;

    /// <summary>Second PRP entry, list pointer, or 0.</summary>
    [FieldOffset(32)]
    internal ulong Prp2;

    [FieldOffset(40)]
    internal uint Dword10;

    [FieldOffset(44)]
    internal uint Dword11;

    /// <summary>Of a read or write: the first logical block (dwords 10 and 11).</summary>
    [FieldOffset(40)]
    internal ulong StartingLba;

    /// <summary>Of a read or write: logical blocks less one in bits 15:0.</summary>
    [FieldOffset(48)]
    internal uint Dword12;
}

/// <summary>A completion queue entry: 16 bytes, little-endian.</summary>
[StructLayout(LayoutKind.Sequential, Size = 16)]
internal struct NvmeCompletion
{
    /// <summary>What the command answers.</summary>
    internal uint Result;

    internal uint Reserved;

    /// <summary>Submission queue head in bits 15:0, its identifier in bits 31:16.</summary>
    internal uint Queue;

    /// <summary>Command identifier in bits 15:0, phase in bit 16, status in bits 31:17. The controller writes it last.</summary>
    internal uint Dword3;
}
