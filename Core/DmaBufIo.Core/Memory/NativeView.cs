using System.Runtime.CompilerServices;

namespace DmaBufIo.Memory;

/// <summary>The items of a <see cref="NativePool{T}"/>, for whoever looks at them all the time: one step nearer than the pool. Valid until the pool is disposed; does not keep it alive.</summary>
/// <typeparam name="T">The struct.</typeparam>
public readonly unsafe struct NativeView<T>
    where T : unmanaged
{
    private readonly T* _items;
    private readonly int _count;

    internal NativeView(T* items, int count)
    {
        _items = items;
        _count = count;
    }

    /// <summary>One of them.</summary>
    /// <param name="index">From 0.</param>
    public ref T this[int index]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get
        {
            if ((uint)index >= (uint)_count)
                Outside(index);
            return ref _items[index];
        }
    }

    private static void Outside(int index) => throw new ArgumentOutOfRangeException(nameof(index), index, "No such element of the pool.");
}
