using DmaBufIo.Memory;
using DmaBufIo.Native;
using Microsoft.Win32.SafeHandles;

namespace DmaBufIo.Models.Iommu;

/// <summary>Access to memory that no mapping keeps allocated, through its file instead of its place in the address space.</summary>
/// <remarks>
/// The owner of unmapped memory may dispose it at any moment, also while the stale access is served; touching the pages then
/// would end the process. A memory file stays whole as long as somebody holds its descriptor, and hardware would reach the page too.
/// </remarks>
internal readonly struct StaleMemory : IDisposable
{
    private readonly MemfdHandle _owner;
    private readonly SafeFileHandle _file;

    private StaleMemory(MemfdHandle owner, SafeFileHandle file)
    {
        _owner = owner;
        _file = file;
    }

    /// <summary>Takes hold of a region's file; false when the region was disposed already.</summary>
    public static bool TryOpen(MemoryRegion region, out StaleMemory memory)
    {
        memory = default;
        bool held = false;
        try
        {
            region.File.DangerousAddRef(ref held);
        }
        catch (ObjectDisposedException)
        {
            return false;
        }

        memory = new StaleMemory(region.File, new SafeFileHandle(region.File.Number, ownsHandle: false));
        return true;
    }

    /// <summary>Reads the bytes at an offset of the region.</summary>
    public void Read(long offset, Span<byte> destination)
    {
        while (destination.Length > 0)
        {
            int read = RandomAccess.Read(_file, destination, offset);
            if (read == 0)
                throw new InvalidOperationException("A memory file is shorter than its region.");
            destination = destination[read..];
            offset += read;
        }
    }

    /// <summary>Writes bytes at an offset of the region.</summary>
    public void Write(long offset, ReadOnlySpan<byte> source) => RandomAccess.Write(_file, source, offset);

    /// <summary>Lets the file go.</summary>
    public void Dispose()
    {
        _file.Dispose();
        _owner.DangerousRelease();
    }
}
