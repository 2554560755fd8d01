using System.Security.Cryptography;
using DmaBufIo.Exporters.Gpu.Jobs;
using DmaBufIo.Exporters.Gpu.Memory;

namespace DmaBufIo.Exporters.Gpu.Pressure;

/// <summary>A user with buffers and a thread: fills a buffer, and when it comes back to it looks whether it still holds that.</summary>
internal sealed class PressureUser : IDisposable
{
    private readonly GpuBuffer[] _buffers;
    private readonly byte?[] _values;
    private readonly Thread _thread;
    private readonly Random _random;
    private volatile bool _stopping;
    private volatile string? _failure;

    internal PressureUser(string name, int seed, GpuBuffer[] buffers)
    {
        _buffers = buffers;
        _values = new byte?[buffers.Length];
        _random = new Random(seed);
        _thread = new Thread(Work) { Name = name, IsBackground = true };
        _thread.Start();
    }

    /// <summary>What went wrong, or null.</summary>
    internal string? Failure => _failure;

    public void Dispose()
    {
        _stopping = true;
        _thread.Join();
        foreach (GpuBuffer buffer in _buffers)
            buffer.Buffer.Put();
    }

    private void Work()
    {
        try
        {
            for (int i = 0; !_stopping && _failure is null; i = (i + 1) % _buffers.Length)
                Use(i);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            _failure = $"{_thread.Name}: {e.Message}";
        }
    }

    private void Use(int index)
    {
        GpuBuffer buffer = _buffers[index];
        long size = buffer.Buffer.Size;

        // All of it was filled with one value: a page of it tells.
        if (_values[index] is { } value)
        {
            long offset = _random.NextInt64(size / 4096) * 4096;
            GpuJob look = Kernels.Hash(buffer, offset, 4096);
            look.Fence.Wait();
            byte[] page = new byte[4096];
            page.AsSpan().Fill(value);
            if (!look.Result.Span.SequenceEqual(SHA256.HashData(page)))
            {
                _failure = $"{_thread.Name}: {buffer.Buffer.Name} does not hold at {offset} what was put there";
                return;
            }
        }

        if (_values[index] is null || _random.Next(4) == 0)
        {
            byte next = (byte)_random.Next(256);
            GpuJob fill = Kernels.Fill(buffer, 0, size, next);
            fill.Fence.Wait();
            _values[index] = next;
        }
    }
}
