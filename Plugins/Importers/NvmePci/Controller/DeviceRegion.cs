using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Native;
using DmaBufIo.Memory;

namespace DmaBufIo.Importers.NvmePci.Controller;

/// <summary>
/// Memory that host and controller share for as long as a queue lives: entries and PRP lists. Mapped once, in one piece; it never moves,
/// so no
/// request and no invalidation ever waits for it (T15).
/// </summary>
/// <remarks>What the kernel calls coherent memory: it is not synced per request (N7 concerns the data).</remarks>
internal sealed class DeviceRegion : IDisposable
{
    private readonly MemoryRegion _memory;
    private readonly DeviceRange _range;
    private bool _disposed;

    /// <summary>Allocates and maps.</summary>
    /// <param name="space">The controller's address space.</param>
    /// <param name="name">For fault reports.</param>
    /// <param name="length">Bytes; rounded up to whole pages.</param>
    /// <param name="pageSize">The controller page: the device address is a multiple of it (P13).</param>
    internal DeviceRegion(DmaAddressSpace space, string name, long length, int pageSize)
    {
        _memory = MemoryRegion.Allocate(name, (length + pageSize - 1) & -pageSize);
        try
        {
            _range = space.Map(new MemoryRange(_memory, 0, _memory.Length), DmaDirection.Bidirectional, name);
            if ((_range.Address & (ulong)(pageSize - 1)) != 0)
            {
                space.Unmap(_range);
                throw NvmeError.Make(
                    Errno.EOPNOTSUPP,
                    name,
                    $"the address space gives multiples of {space.Granularity} bytes, the controller's page is {pageSize}",
                    "Use an address space whose granularity is the controller's page or more",
                    "P13");
            }
        }
        catch
        {
            _memory.Dispose();
            throw;
        }
    }

    /// <summary>The device address of the first byte.</summary>
    internal ulong Address => _range.Address;

    /// <summary>A typed view; not to be used once the region is disposed.</summary>
    internal DeviceMemory<T> View<T>(long offset, int bytes)
        where T : unmanaged => new(_memory.Span(offset, bytes));

    /// <summary>The bytes of a part.</summary>
    internal Span<byte> Span(long offset, int length) => _memory.Span(offset, length);

    /// <summary>Unmaps and frees. The controller does not use the memory any more. Idempotent; callers hold the controller's
    /// lock.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _range.Space.Unmap(_range);
        _memory.Dispose();
    }
}
