using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Jobs;
using DmaBufIo.Exporters.Gpu.Memory;
using DmaBufIo.Plugins;

namespace DmaBufIo.Exporters.Gpu.Pressure;

/// <summary>Makes a buffer on a GPU.</summary>
internal delegate GpuBuffer BufferMaker(Gpu gpu, string name, long size);

/// <summary>Users of a GPU whose buffers together are several times its memory, and who work on all of them in turn.</summary>
internal sealed class PressureLoad : IMemoryPressure
{
    private const int Users = 8;

    // Times the GPU's memory, with the buffer that is to be disturbed.
    private const int Oversize = 3;

    private readonly GpuBuffer _buffer;
    private readonly WorkingSet _set;
    private readonly List<PressureUser> _users = [];
    private readonly long _evictions;
    private readonly long _restores;
    private readonly long _moves;
    private readonly long _underLoad;
    private bool _disposed;

    internal PressureLoad(GpuBuffer buffer, BufferMaker make)
    {
        Gpu gpu = buffer.Gpu;
        _buffer = buffer;
        _evictions = gpu.Memory.Evictions;
        _restores = gpu.Memory.Restores;
        _moves = buffer.Moves;
        _underLoad = buffer.MovesUnderLoad;

        // Small against the memory, so that moves are many and a job's buffer always finds room.
        long size = Math.Clamp(gpu.Vram / 128 / VramHeap.Granule * VramHeap.Granule, VramHeap.Granule, 1 << 20);
        int count = (int)(((Oversize * gpu.Vram) - VramHeap.Rounded(buffer.Buffer.Size) + size - 1) / size);
        if (VramHeap.Rounded(buffer.Buffer.Size) + (Users * size) > gpu.Vram)
            throw new DmaBufIoException(Errno.ENOMEM, GpuPlugin.PluginName, buffer.Buffer.Name, $"{gpu.Name} has {gpu.Vram} bytes of memory: not enough for the buffer and those of others", "Give the GPU more memory (gpu:vram=SIZE)");
        if (buffer.Set is not null)
            throw new DmaBufIoException(Errno.EBUSY, GpuPlugin.PluginName, buffer.Buffer.Name, "the buffer is under pressure already", "End the other one first");
        buffer.Buffer.Get();
        WorkingSet = VramHeap.Rounded(buffer.Buffer.Size) + (count * size);
        _set = new WorkingSet(gpu, [buffer]);
        try
        {
            var made = Enumerable.Range(0, Users).Select(static _ => new List<GpuBuffer>()).ToArray();
            try
            {
                for (int i = 0; i < count; i++)
                    made[i % Users].Add(make(gpu, $"pressure {i}", size));
            }
            catch
            {
                foreach (GpuBuffer each in made.SelectMany(static m => m))
                    each.Buffer.Put();
                throw;
            }

            for (int i = 0; i < Users; i++)
                _users.Add(new PressureUser($"{gpu.Name} user {i}", i, [.. made[i]]));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public long Evictions => _buffer.Gpu.Memory.Evictions - _evictions;

    /// <inheritdoc/>
    public long Restores => _buffer.Gpu.Memory.Restores - _restores;

    /// <inheritdoc/>
    public long Moves => _buffer.Moves - _moves;

    /// <inheritdoc/>
    public long MovesUnderLoad => _buffer.MovesUnderLoad - _underLoad;

    /// <inheritdoc/>
    public long WorkingSet { get; }

    /// <inheritdoc/>
    public string? Failure => _users.Select(static u => u.Failure).FirstOrDefault(static f => f is not null);

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        foreach (PressureUser user in _users)
            user.Dispose();
        _set.End();
        _buffer.Buffer.Put();
    }
}
