using DmaBufIo.Memory;

namespace DmaBufIo.Dma;

/// <summary>One established mapping: a range of memory as one device sees it. Returned by <see cref="DmaAddressSpace.Map"/>, given back to <see cref="DmaAddressSpace.Unmap(DeviceRange)"/>.</summary>
public sealed class DeviceRange
{
    /// <summary>Creates the description of a mapping; called by implementations of <see cref="DmaAddressSpace"/>.</summary>
    /// <param name="space">The address space that made it.</param>
    /// <param name="address">First device address (bytes).</param>
    /// <param name="memory">The memory behind it.</param>
    /// <param name="direction">The accesses the device is allowed.</param>
    /// <param name="purpose">What the mapping is for, for fault reports.</param>
    /// <param name="generation">The generation of the map it belongs to, 0 when it belongs to none.</param>
    public DeviceRange(DmaAddressSpace space, ulong address, MemoryRange memory, DmaDirection direction, string purpose, long generation)
    {
        Space = space;
        Address = address;
        Memory = memory;
        Direction = direction;
        Purpose = purpose;
        Generation = generation;
    }

    /// <summary>The address space that made the mapping.</summary>
    public DmaAddressSpace Space { get; }

    /// <summary>First device address, in bytes.</summary>
    public ulong Address { get; }

    /// <summary>The memory behind the mapping.</summary>
    public MemoryRange Memory { get; }

    /// <summary>Length in bytes.</summary>
    public long Length => Memory.Length;

    /// <summary>The accesses the device is allowed.</summary>
    public DmaDirection Direction { get; }

    /// <summary>What the mapping is for, for fault reports: a buffer's or a queue's name.</summary>
    public string Purpose { get; }

    /// <summary>The generation of the buffer's map it belongs to; 0 for memory that never moves.</summary>
    public long Generation { get; }
}
