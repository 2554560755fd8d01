using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace DmaBufIo.Importers.NvmePci.Native;

/// <summary>A typed view of memory that a device shares: queue entries and PRP lists. Mapped memory does not move, so the address is
/// kept.</summary>
/// <remarks>Does not keep the memory alive: whoever holds the view holds the region too, and stops using the view before the region is
/// freed.</remarks>
/// <typeparam name="T">The entry, laid out as the device expects it.</typeparam>
internal readonly unsafe struct DeviceMemory<T>
    where T : unmanaged
{
    private readonly T* _items;
    private readonly int _count;

    /// <summary>Makes a view of mapped memory.</summary>
    /// <param name="memory">Memory of a region, aligned for <typeparamref name="T"/>; whole entries.</param>
    internal DeviceMemory(Span<byte> memory)
    {
        _items = (T*)Unsafe.AsPointer(ref MemoryMarshal.GetReference(memory));
        _count = memory.Length / sizeof(T);
    }

    /// <summary>One entry.</summary>
    [Diagnostics.HotPath]
    internal ref T this[int index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get
        {
            if ((uint)index >= (uint)_count)
                Outside(index);
            return ref _items[index];
        }
    }

    /// <summary>Some entries.</summary>
    [Diagnostics.HotPath]
    internal Span<T> Slice(int start, int count)
    {
        if ((uint)start > (uint)_count || (uint)count > (uint)(_count - start))
            Outside(start);
        return new Span<T>(_items + start, count);
    }

    /// <summary>Zeroes all entries.</summary>
    internal void Clear() => new Span<T>(_items, _count).Clear();

    private static void Outside(int index) => throw new ArgumentOutOfRangeException(nameof(index), index, "Outside the device's memory.");
}
