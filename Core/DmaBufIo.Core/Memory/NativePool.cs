using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace DmaBufIo.Memory;

/// <summary>A fixed number of structs in native memory, zeroed, on cache lines of their own, addressed by index.</summary>
/// <typeparam name="T">The struct; holds no references.</typeparam>
public sealed unsafe class NativePool<T> : IDisposable
    where T : unmanaged
{
    private const nuint CacheLine = 64;
    private T* _items;

    /// <summary>Allocates the pool.</summary>
    /// <param name="count">How many, 1 or more.</param>
    public NativePool(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        Count = count;
        nuint bytes = checked((nuint)count * (nuint)sizeof(T));
        _items = (T*)NativeMemory.AlignedAlloc(bytes, CacheLine);
        NativeMemory.Clear(_items, bytes);
    }

    /// <summary>Frees a pool that its owner forgot.</summary>
    ~NativePool() => Free();

    /// <summary>How many there are.</summary>
    public int Count { get; }

    /// <summary>One of them. The reference is valid until the pool is disposed.</summary>
    /// <param name="index">0 to <see cref="Count"/> - 1.</param>
    public ref T this[int index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get
        {
            if ((uint)index >= (uint)Count)
                Outside(index);
            return ref _items[index];
        }
    }

    /// <summary>The items without the way over this object.</summary>
    public NativeView<T> View => new(_items, Count);

    /// <summary>Frees the memory. Idempotent.</summary>
    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private static void Outside(int index) => throw new ArgumentOutOfRangeException(nameof(index), index, "No such element of the pool.");

    private void Free()
    {
        T* items = _items;
        _items = null;
        NativeMemory.AlignedFree(items);
    }
}
