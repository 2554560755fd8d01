using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <summary>A bio that is to be submitted.</summary>
/// <param name="Operation">What it does.</param>
/// <param name="Sector">First sector, in units of 512 bytes.</param>
/// <param name="Offset">First byte in the memory.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Pages">The memory of a bio that is backed by pages.</param>
/// <param name="Token">The registration of one that is backed by a map.</param>
internal readonly record struct BioPlan(BioOperation Operation, long Sector, long Offset, long Size, MemoryRegion? Pages, DmaBufToken? Token)
{
    internal static BioPlan Flush => new(BioOperation.Flush, 0, 0, 0, null, null);

    public override string ToString() => Operation == BioOperation.Flush ? "flush"
        : $"{(Operation == BioOperation.Read ? "read" : "write")} of {Size} bytes at {Sector << 9}, {(Token is null ? "pages" : "map")} from byte {Offset} on";
}

/// <summary>A bio that a queue has taken, and what became of it.</summary>
internal sealed class BlockRequest(BioPlan plan, DmaMap? map)
{
    internal BioPlan Plan { get; } = plan;

    /// <summary>The map whose reference is held for it.</summary>
    internal DmaMap? Map { get; set; } = map;

    /// <summary>How often it has ended.</summary>
    internal int Ends { get; set; }

    /// <summary>How, the last time.</summary>
    internal Errno Status { get; set; }

    public override string ToString() => Plan.ToString();
}
