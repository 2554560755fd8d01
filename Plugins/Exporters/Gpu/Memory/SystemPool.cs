using DmaBufIo.Memory;

namespace DmaBufIo.Exporters.Gpu.Memory;

/// <summary>Main memory behind the GPU's. What was given back is kept for the next buffer of the same size: fresh pages cost more than moving the contents.</summary>
/// <remarks>Any thread: the copy engine gives memory back, and takes no other lock for it (F3).</remarks>
/// <param name="most">Bytes to be kept at most; what comes back beyond that is freed.</param>
internal sealed class SystemPool(long most) : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<long, Stack<MemoryRegion>> _kept = [];
    private long _bytes;
    private bool _disposed;

    /// <summary>Takes a place. Its contents are whatever the memory held before.</summary>
    internal Place Take(string name, long size)
    {
        MemoryRegion? region = null;
        lock (_lock)
        {
            if (_kept.TryGetValue(size, out Stack<MemoryRegion>? kept))
                kept.TryPop(out region);
            _bytes -= region?.Length ?? 0;
        }

        if (region is null)
        {
            region = MemoryRegion.Allocate("system memory of a GPU", size);
            region.File.SealAgainstShrinking();
        }

        return new Place(name, isVram: false, [new MemoryRange(region, 0, size)], () => Return(region));
    }

    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            foreach (MemoryRegion region in _kept.Values.SelectMany(static k => k))
                region.Dispose();
            _kept.Clear();
        }
    }

    private void Return(MemoryRegion region)
    {
        lock (_lock)
        {
            if (!_disposed && _bytes + region.Length <= most)
            {
                _bytes += region.Length;
                if (!_kept.TryGetValue(region.Length, out Stack<MemoryRegion>? kept))
                    _kept[region.Length] = kept = new Stack<MemoryRegion>();
                kept.Push(region);
                return;
            }
        }

        region.Dispose();
    }
}
