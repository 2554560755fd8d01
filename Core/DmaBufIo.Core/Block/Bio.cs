using System.Runtime.InteropServices;
using DmaBufIo.Errors;

namespace DmaBufIo.Block;

/// <summary>A bio by its place in its context's pool.</summary>
/// <param name="Index">The place.</param>
public readonly record struct BioHandle(int Index);

/// <summary>What a bio does.</summary>
public enum BioOperation : byte
{
    /// <summary>Storage to memory.</summary>
    Read,

    /// <summary>Memory to storage.</summary>
    Write,

    /// <summary>Everything acknowledged before becomes durable. Has no backing and no length.</summary>
    Flush,
}

/// <summary>What a bio is backed by; never both (B1).</summary>
public enum BioBacking : byte
{
    /// <summary>Nothing (a flush).</summary>
    None,

    /// <summary>A map of a registered buffer.</summary>
    Map,

    /// <summary>A range of a memory region, mapped for the device per request.</summary>
    Pages,
}

/// <summary>
/// The block layer's unit of I/O. Lives in native memory, on a cache line of its own: holds no references; its map or memory region is rooted by the pool
/// (<see cref="BioPool.BackingOf"/>).
/// </summary>
[StructLayout(LayoutKind.Sequential, Size = 64)]
public struct Bio
{
    /// <summary>First sector on the device, in units of 512 bytes.</summary>
    public long Sector;

    /// <summary>Offset of the data in the map or region, in bytes; moves with <see cref="Size"/> for every kind of backing (B2).</summary>
    public long Offset;

    /// <summary>Bytes left. 64 bits until a driver clamps it to its command (B4).</summary>
    public long Size;

    /// <summary>The owner's own value: a ring's request, a stacking driver's parent.</summary>
    public long Cookie;

    /// <summary>Who is told when it ends: a number from <see cref="BioPool.AddOwner"/>.</summary>
    public int Owner;

    /// <summary>How it ended; says nothing before that.</summary>
    public Errno Status;

    /// <summary>What it does.</summary>
    public BioOperation Operation;

    /// <summary>What it is backed by.</summary>
    public BioBacking Backing;

    /// <summary>Moves the start forward by whole sectors (B2): sector, offset and size together.</summary>
    /// <param name="bytes">A multiple of 512, at most <see cref="Size"/>.</param>
    public void Advance(long bytes)
    {
        Sector += bytes >> 9;
        Offset += bytes;
        Size -= bytes;
    }

    /// <summary>Undoes <see cref="Advance"/> (B2).</summary>
    /// <param name="bytes">A multiple of 512.</param>
    public void Rewind(long bytes) => Advance(-bytes);
}
