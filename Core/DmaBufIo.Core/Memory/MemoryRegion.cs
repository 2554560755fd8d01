using System.Runtime.InteropServices;
using DmaBufIo.Errors;
using DmaBufIo.Native;

namespace DmaBufIo.Memory;

/// <summary>
/// A piece of file-backed memory (a mapped memfd): what buffers, queues and lists are made of. Devices reach it only
/// through a DMA address space; another process can be handed its descriptor.
/// </summary>
/// <remarks>
/// The region is one <em>place</em>. An exporter that moves a buffer allocates a new region, copies, and marks the old one
/// dead (<see cref="MarkDead"/>): from then on any device access to it is a stale access, in every IOMMU mode.
/// The memory stays mapped until <see cref="Dispose"/>; whoever disposes it guarantees that no map refers to it.
/// </remarks>
public sealed unsafe class MemoryRegion : IDisposable
{
    private static long s_lastId;
    private readonly MemfdHandle _file;
    private nint _address;
    private volatile bool _dead;

    private MemoryRegion(string name, MemfdHandle file, long fileOffset, nint address, long length)
    {
        Name = name;
        _file = file;
        FileOffset = fileOffset;
        _address = address;
        Length = length;
        Id = Interlocked.Increment(ref s_lastId);
    }

    /// <summary>The size of a memory page of the host, in bytes. Regions begin on a page and are whole pages long.</summary>
    public static int PageSize => Environment.SystemPageSize;

    /// <summary>A name for messages; not unique.</summary>
    public string Name { get; }

    /// <summary>A number that no other region of this process has had.</summary>
    public long Id { get; }

    /// <summary>Length in bytes, a multiple of <see cref="PageSize"/>.</summary>
    public long Length { get; }

    /// <summary>The memory file behind the region. Owned by the region.</summary>
    public MemfdHandle File => _file;

    /// <summary>Where in the file the region begins, in bytes, a multiple of <see cref="PageSize"/>.</summary>
    public long FileOffset { get; }

    /// <summary>True once the owner has moved its contents elsewhere: no device may touch the region any more (F7).</summary>
    public bool IsDead => _dead;

    /// <summary>Allocates a zeroed region.</summary>
    /// <param name="name">A name for messages.</param>
    /// <param name="length">Bytes, more than 0; rounded up to whole pages.</param>
    /// <returns>The region; the caller owns it.</returns>
    /// <exception cref="DmaBufIoException">The length is not positive (<c>EINVAL</c>) or memory is exhausted.</exception>
    public static MemoryRegion Allocate(string name, long length)
    {
        if (length <= 0 || length > long.MaxValue - PageSize)
            throw new DmaBufIoException(Errno.EINVAL, "Memory", name, "the length must be positive", "Give a length of at least 1 byte", range: $"0+{length}");
        long rounded = (length + PageSize - 1) / PageSize * PageSize;
        var file = MemfdHandle.Create(name, rounded);
        try
        {
            return Map(name, file, 0, rounded);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Maps an existing memory file, or a part of it. The region takes ownership of the handle, also when it throws.</summary>
    /// <param name="name">A name for messages.</param>
    /// <param name="file">The file; long enough for the range and sealed against shrinking.</param>
    /// <param name="length">Bytes, a positive multiple of <see cref="PageSize"/>.</param>
    /// <param name="offset">First byte of the file, a multiple of <see cref="PageSize"/>.</param>
    /// <exception cref="DmaBufIoException">Not sealed, a bad range or a file that is shorter (<c>EINVAL</c>), or the kernel refuses the mapping.</exception>
    public static MemoryRegion FromFile(string name, MemfdHandle file, long length, long offset = 0)
    {
        try
        {
            if (length <= 0 || length % PageSize != 0 || offset < 0 || offset % PageSize != 0)
                throw new DmaBufIoException(Errno.EINVAL, "Memory", name, $"offset and length must be multiples of the page size ({PageSize}), the length positive", "Round the range to whole pages", range: $"{offset}+{length}");
            if (!file.IsSealedAgainstShrinking)
                throw new DmaBufIoException(Errno.EINVAL, "Memory", name, "the memory file is not sealed against shrinking", "Add the seal F_SEAL_SHRINK before handing the file over");

            // The seal keeps the size that it has: touching a mapping beyond the file's end would end the process (SIGBUS).
            Errno status = Libc.Stat(file.Number, out _, out long size);
            if (status != Errno.Ok || size - offset < length)
                throw new DmaBufIoException(status == Errno.Ok ? Errno.EINVAL : status, "Memory", name, $"the memory file has {size} bytes", "Map no more than the file holds", range: $"{offset}+{length}");
            return Map(name, file, offset, length);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>The bytes of a range. The span is valid until the region is disposed; it does not keep the region alive.</summary>
    /// <param name="offset">First byte, within the region.</param>
    /// <param name="length">Bytes; offset + length within the region.</param>
    /// <exception cref="DmaBufIoException">The range leaves the region (<c>EFAULT</c>).</exception>
    public Span<byte> Span(long offset, int length)
    {
        if ((ulong)offset > (ulong)Length || (ulong)length > (ulong)(Length - offset))
            throw new DmaBufIoException(Errno.EFAULT, "Memory", Name, $"the range leaves the region of {Length} bytes", "Ask for a range inside the region", range: $"{offset}+{length}");
        ObjectDisposedException.ThrowIf(_address == 0, this);
        return new Span<byte>((byte*)_address + offset, length);
    }

    /// <summary>Marks the place dead: its contents live elsewhere now. Called by the owner with the reservation lock held, after invalidation has returned (F7).</summary>
    public void MarkDead() => _dead = true;

    /// <summary>Copies the contents of another region of the same length into this one.</summary>
    /// <exception cref="DmaBufIoException">The lengths differ (<c>EINVAL</c>).</exception>
    public void CopyFrom(MemoryRegion source)
    {
        if (source.Length != Length)
            throw new DmaBufIoException(Errno.EINVAL, "Memory", Name, $"cannot copy {source.Length} bytes into {Length}", "Copy between regions of one length");
        ObjectDisposedException.ThrowIf(_address == 0 || source._address == 0, this);
        NativeMemory.Copy((void*)source._address, (void*)_address, (nuint)Length);
    }

    /// <summary>Fills the region with one byte value (poison, after its contents have moved).</summary>
    public void Fill(byte value)
    {
        ObjectDisposedException.ThrowIf(_address == 0, this);
        NativeMemory.Fill((void*)_address, (nuint)Length, value);
    }

    /// <summary>Unmaps the memory and closes the file. Idempotent.</summary>
    public void Dispose()
    {
        nint address = Interlocked.Exchange(ref _address, 0);
        if (address != 0 && Libc.Munmap(address, (nuint)Length) != 0)
            throw new InvalidOperationException($"munmap of region {Name} failed with errno {Marshal.GetLastPInvokeError()}.");
        _file.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Unmaps a region that its owner forgot: memory files are too large to leak.</summary>
    ~MemoryRegion()
    {
        if (_address != 0)
            _ = Libc.Munmap(_address, (nuint)Length);
    }

    private static MemoryRegion Map(string name, MemfdHandle file, long offset, long length)
    {
        nint address = Libc.Mmap(0, (nuint)length, Libc.ProtRead | Libc.ProtWrite, Libc.MapShared, file.Number, offset);
        if (address == -1)
        {
            int code = Marshal.GetLastPInvokeError();
            throw new DmaBufIoException((Errno)code, "Memory", name, $"mmap failed: {Marshal.GetPInvokeErrorMessage(code)}", "Free memory or ask for a smaller region", range: $"0+{length}");
        }

        return new MemoryRegion(name, file, offset, address, length);
    }
}
