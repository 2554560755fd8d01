using DmaBufIo.Dma;
using DmaBufIo.Errors;

namespace RamDisk.UnitTests;

/// <summary>
/// A port that a substitute can stand in for: a proxy cannot be given spans, so their bytes come and go as arrays.
/// </summary>
public abstract class PortDouble : DmaPort
{
    /// <summary>The device reads memory: the bytes that it finds, or null for a fault.</summary>
    public abstract byte[]? Found(ulong address, int length);

    /// <summary>The device writes memory.</summary>
    public abstract Errno Written(ulong address, byte[] bytes);

    public sealed override Errno Read(ulong address, Span<byte> destination)
    {
        if (Found(address, destination.Length) is not { } bytes)
            return Errno.EFAULT;
        bytes.CopyTo(destination);
        return Errno.Ok;
    }

    public sealed override Errno Write(ulong address, ReadOnlySpan<byte> source) => Written(address, source.ToArray());
}
