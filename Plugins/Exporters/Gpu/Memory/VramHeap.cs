using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Exporters.Gpu.Memory;

/// <summary>A range of the GPU's memory.</summary>
/// <param name="Offset">First byte, a multiple of <see cref="VramHeap.Granule"/>.</param>
/// <param name="Length">Bytes, a positive multiple of it.</param>
internal readonly record struct VramRange(long Offset, long Length);

/// <summary>The GPU's own memory: of limited size, one memory file, given out in ranges. A buffer may get several: holes are used up before anybody is evicted.</summary>
/// <remarks>Any thread: the copy engine gives ranges back, and takes no other lock for it (F3).</remarks>
internal sealed class VramHeap : IDisposable
{
    /// <summary>The unit in bytes: what large pages of GPUs begin at, so that tables stay short.</summary>
    internal const long Granule = 64 << 10;

    private readonly Lock _lock = new();
    private readonly MemoryRegion _memory;
    private readonly List<VramRange> _holes = []; // by offset; neighbours are joined
    private long _free;

    internal VramHeap(string name, long size)
    {
        if (size < Granule || size % Granule != 0)
            throw new DmaBufIoException(Errno.EINVAL, GpuPlugin.PluginName, name, $"{size} bytes of memory are no positive multiple of {Granule}", "Write for example gpu:vram=64M");
        _memory = MemoryRegion.Allocate($"memory of {name}", size);
        _memory.File.SealAgainstShrinking();
        Size = size;
        _free = size;
        _holes.Add(new VramRange(0, size));
    }

    /// <summary>Bytes in all.</summary>
    internal long Size { get; }

    /// <summary>Bytes that nobody has.</summary>
    internal long Free => Volatile.Read(ref _free);

    /// <summary>Bytes that a buffer takes up here.</summary>
    internal static long Rounded(long size) => (size + Granule - 1) / Granule * Granule;

    /// <summary>Takes memory: one range where one is large enough, else the largest ones.</summary>
    /// <param name="size">Bytes, a positive multiple of the granule.</param>
    /// <returns>The ranges; null when there is not enough.</returns>
    internal IReadOnlyList<VramRange>? TryTake(long size)
    {
        lock (_lock)
        {
            if (size > _free)
                return null;
            var taken = new List<VramRange>();
            for (long left = size; left > 0;)
            {
                int best = Best(left);
                VramRange hole = _holes[best];
                long length = Math.Min(left, hole.Length);
                taken.Add(new VramRange(hole.Offset, length));
                if (length == hole.Length)
                    _holes.RemoveAt(best);
                else
                    _holes[best] = new VramRange(hole.Offset + length, hole.Length - length);
                left -= length;
            }

            _free -= size;
            return taken;
        }
    }

    /// <summary>Gives memory back.</summary>
    internal void Return(IReadOnlyList<VramRange> ranges)
    {
        lock (_lock)
        {
            foreach (VramRange range in ranges)
            {
                int at = _holes.FindIndex(h => h.Offset > range.Offset);
                Insert(at < 0 ? _holes.Count : at, range);
                _free += range.Length;
            }
        }
    }

    /// <summary>A place in memory that was taken. What it holds is whatever lay there before.</summary>
    internal Place PlaceOf(string name, long size, IReadOnlyList<VramRange> ranges)
    {
        var memory = new List<MemoryRange>();
        long left = size;
        foreach (VramRange range in ranges)
        {
            memory.Add(new MemoryRange(_memory, range.Offset, Math.Min(range.Length, left)));
            left -= range.Length;
        }

        return new Place(name, isVram: true, memory, () => Return(ranges));
    }

    public void Dispose() => _memory.Dispose();

    // The smallest hole that is large enough; without one the largest.
    private int Best(long size)
    {
        int best = 0;
        for (int i = 1; i < _holes.Count; i++)
        {
            long length = _holes[i].Length;
            long known = _holes[best].Length;
            if (known >= size ? length >= size && length < known : length > known)
                best = i;
        }

        return best;
    }

    private void Insert(int at, VramRange range)
    {
        if (at < _holes.Count && range.Offset + range.Length == _holes[at].Offset)
        {
            range = range with { Length = range.Length + _holes[at].Length };
            _holes.RemoveAt(at);
        }

        if (at > 0 && _holes[at - 1].Offset + _holes[at - 1].Length == range.Offset)
            _holes[at - 1] = _holes[at - 1] with { Length = _holes[at - 1].Length + range.Length };
        else
            _holes.Insert(at, range);
    }
}
