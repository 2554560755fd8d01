using DmaBufIo.Files;

namespace DmaBufIo.ContractTests;

/// <summary>
/// A device under test as the contract sees it: a file, and another way to the same data, so that each direction is verified on its own against a truth that the driver's fast path has
/// not written.
/// </summary>
public abstract class ImporterTarget : IDisposable
{
    /// <summary>The file, opened for direct I/O, with the one reference that this object drops.</summary>
    public abstract IoFile File { get; }

    /// <summary>Bytes that can be read and written from offset 0: at least 1 MiB, and 80 blocks. For a device of messages the longest message.</summary>
    public virtual long Capacity => File.Size;

    /// <summary>Lengths and file offsets are multiples of it.</summary>
    public virtual int BlockSize => File.BlockSize;

    /// <summary>Buffer offsets are multiples of it.</summary>
    public virtual int MemoryAlignment => File.MemoryAlignment;

    /// <summary>Makes sure that the next read of this range brings these bytes. Returns when it is so.</summary>
    /// <param name="offset">First byte in the file; 0 for a device of messages.</param>
    /// <param name="data">The bytes, whole blocks.</param>
    public abstract void Give(long offset, ReadOnlySpan<byte> data);

    /// <summary>A write of this range is going to be issued: an end that must be ready for it is made ready.</summary>
    /// <param name="offset">First byte in the file.</param>
    /// <param name="length">Bytes.</param>
    public virtual void Expect(long offset, int length)
    {
    }

    /// <summary>What a write of this range has brought, by another way.</summary>
    /// <param name="offset">First byte in the file.</param>
    /// <param name="length">Bytes.</param>
    public abstract byte[] Take(long offset, int length);

    /// <summary>Resets the device under load (T11): with <see cref="ImporterCapabilities.Reset"/>.</summary>
    public virtual void Reset() => throw new NotSupportedException("A fixture with the capability Reset overrides Reset.");

    /// <summary>Removes the device under load (T11): with <see cref="ImporterCapabilities.Remove"/>. The file's reference stays.</summary>
    public virtual void Remove() => throw new NotSupportedException("A fixture with the capability Remove overrides Remove.");

    /// <summary>Drops the file and closes the device.</summary>
    public abstract void Dispose();
}
